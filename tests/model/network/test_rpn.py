"""Which boxes are proposed."""

import torch

from model.archive import quiet
from model.network.anchors import Anchors
from model.network.boxes import limits
from model.network.rpn import RegionProposalNetwork, drop_padding, propose
from model.network.structures import Proposals, RpnOutputs
from tests.model.network.examples import random_pyramid


def level(scores: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and zero deltas of one row of cells with one anchor each."""
    logits = torch.tensor(scores).logit()[None, None, None]  # (1, 1, 1, w)
    return logits, torch.zeros(1, 4, 1, len(scores))


def test_the_best_of_all_levels_compete_after_suppression() -> None:  # quirk Q13
    fine, coarse = level([0.5, 0.9, 0.8]), level([0.7])
    anchors = [
        torch.tensor([[0.0, 0, 9, 9], [20.0, 0, 29, 9], [21.0, 0, 30, 9]]),  # the third overlaps the second: 0.82
        torch.tensor([[40.0, 10, 90, 99]]),
    ]
    outputs = RpnOutputs([fine[0], coarse[0]], [fine[1], coarse[1]])
    found = propose(outputs, anchors, limits([(50, 60)], torch.zeros(1)), pre_nms=3, post_nms=4, nms_threshold=0.7)[0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7, 0.5, -1.0]))
    assert found.boxes[:3].tolist() == [[20, 0, 29, 9], [40, 10, 59, 49], [0, 0, 9, 9]]  # clipped to the image
    few = propose(outputs, anchors, limits([(50, 60)], torch.zeros(1)), pre_nms=3, post_nms=1, nms_threshold=0.7)[0]
    assert few.boxes.tolist() == [[20, 0, 29, 9]]
    first = propose(outputs, anchors, limits([(50, 60)], torch.zeros(1)), pre_nms=1, post_nms=4, nms_threshold=0.7)[
        0
    ]  # 0.5 is not looked at
    assert drop_padding(first).boxes.tolist() == [[20, 0, 29, 9], [40, 10, 59, 49]]


def test_padding_rows_are_dropped() -> None:
    found = drop_padding(Proposals(torch.arange(12.0).view(3, 4), torch.tensor([0.5, 0.0, -1.0])))
    assert found.scores.tolist() == [0.5, 0.0]
    assert len(found.boxes) == 2


def test_scripted_proposes_the_same_and_an_image_what_it_proposes_alone() -> None:
    torch.manual_seed(0)
    anchors = Anchors([4, 8, 16, 32, 64], 4, [0.5, 1, 2])
    network = RegionProposalNetwork(6, anchors, pre_nms=40, post_nms=20, nms_threshold=0.7)
    pyramid = random_pyramid(6, 64, 128)
    sizes = limits([(64, 128), (50, 100)], pyramid.p2)
    with quiet(), torch.no_grad():
        found, scripted = network(pyramid, sizes), torch.jit.script(network)(pyramid, sizes)
        alone = network(type(pyramid)(*(features[1:] for features in pyramid)), sizes[1:])[0]
    for ours, theirs in zip(found, scripted, strict=True):
        assert ours.boxes.shape == (20, 4)
        assert torch.equal(ours.boxes, theirs.boxes)
        assert torch.equal(ours.scores, theirs.scores)
    torch.testing.assert_close(alone.scores, found[1].scores)
    torch.testing.assert_close(alone.boxes, found[1].boxes, atol=1e-3, rtol=1e-4)
    assert (found[1].boxes <= torch.tensor([99.0, 49, 99, 49])).all()

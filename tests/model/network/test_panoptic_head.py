"""What the panoptic head decides, by hand; each device's form is compared with the plain one in its own tests."""

import pytest
import torch

from model.archive import quiet
from model.network.panoptic_head import PanopticHead
from tests.model.network.examples import detections, panoptic_case


@pytest.fixture
def negative() -> torch.Tensor:
    """Logits of an image of 32 x 32 pixels, two stuff classes and a thing: nothing is likely, the thing least."""
    logits = torch.full((1, 3, 8, 8), -1.0)
    logits[0, 2] = -5.0
    return logits


def test_an_instance_wins_outside_its_box_where_all_else_is_negative(negative: torch.Tensor) -> None:  # quirk Q4
    found = detections(torch.tensor([[0.0, 0.0, 7.0, 7.0]]), torch.full((1, 28, 28), 9.0), torch.tensor([1]))
    decision = PanopticHead(2, 0.3)(negative, [found])
    assert decision.channels.unique().tolist() == [2]
    assert decision.semantic.unique().tolist() == [0]


def test_the_placeholder_takes_only_negative_pixels(negative: torch.Tensor) -> None:  # quirk Q5
    negative[0, 0, :, :4] = 3.0
    placeholder = detections(torch.zeros(1, 4), torch.ones(1, 28, 28), torch.zeros(1, dtype=torch.int64))
    decision = PanopticHead(2, 0.3)(negative, [placeholder])
    assert decision.channels[:, :, :12].unique().tolist() == [0]
    assert decision.channels[:, :, 20:].unique().tolist() == [2]


def test_a_likely_thing_without_an_instance_is_void(negative: torch.Tensor) -> None:  # quirk Q9
    negative[0, 2] = 4.0
    found = detections(torch.tensor([[0.0, 0.0, 15.0, 31.0]]), torch.full((1, 28, 28), 1.0), torch.tensor([1]))
    decision = PanopticHead(2, 0.3)(negative, [found])
    assert decision.channels[:, :, :16].unique().tolist() == [2]
    assert decision.channels[:, :, 16:].unique().tolist() == [255]
    assert decision.semantic.unique().tolist() == [2]


def test_images_of_a_batch_are_decided_apart_and_scripted_alike() -> None:
    cases = [panoptic_case(i, count) for i, count in enumerate((1, 12, 5))]
    logits, found = torch.stack([case[0] for case in cases]), [case[1] for case in cases]
    head = PanopticHead(5, 0.3)
    with quiet():
        scripted = torch.jit.script(head)
    together, theirs = head(logits, found), scripted(logits, found)
    alone = [head(logits[i : i + 1], found[i : i + 1]) for i in range(3)]
    for name in together._fields:
        assert torch.equal(getattr(together, name), torch.cat([getattr(each, name) for each in alone]))
        assert torch.equal(getattr(together, name), getattr(theirs, name))


def test_a_candidate_may_lose_as_much_as_it_is_told() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 4, 9, 13]])  # 6 of the second's 10 rows are the first's
    found = detections(boxes, torch.ones(2, 28, 28), torch.tensor([1, 1]))
    logits = torch.zeros(1, 3, 8, 8)
    for overlap, channels in ((0.3, {2}), (0.6, {2, 3})):
        decided = PanopticHead(2, overlap)(logits, [found]).channels
        assert channels <= set(decided.unique().tolist()) <= channels | {0, 1, 255}

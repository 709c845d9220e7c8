"""Pooling of boxes, the two heads, and which of their boxes are detections."""

from functools import partial

import pytest
import torch
from torch import nn

from model.archive import quiet
from model.network.backbone import Norm
from model.network.boxes import limits
from model.network.instance_head import BoxHead, Candidates, MaskHead, pool, pyramid_levels
from tests.model.network.examples import boxes_of_two_images, random_pyramid


def test_a_box_is_pooled_one_level_finer_for_each_halving_of_its_side() -> None:
    sides = torch.tensor([1.0, 55, 56, 111, 112, 223, 224, 447, 448, 9000])
    boxes = torch.stack([torch.zeros(10), torch.zeros(10), sides - 1, sides - 1], dim=1)  # quirk Q2
    assert pyramid_levels(boxes, 224.0).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_pooling_no_boxes_gives_none() -> None:
    pooled = pool(random_pyramid(4, 64, 64), [torch.zeros(0, 4), torch.zeros(0, 4)], 7, 224.0)
    assert pooled.shape == (0, 4, 7, 7)


def test_pooling_without_gradients_equals_torchvisions() -> None:
    torch.manual_seed(0)
    pyramid, boxes = random_pyramid(20, 384, 512), boxes_of_two_images(60)
    with torch.no_grad():
        found = pool(pyramid, boxes, 7, 112.0)
    torch.testing.assert_close(found, pool(pyramid, boxes, 7, 112.0), atol=1e-5, rtol=1e-5)  # this one records them


@pytest.mark.parametrize("count", [0, 1, 5])
def test_heads_give_each_region_what_each_class_needs(count: int) -> None:
    torch.manual_seed(0)
    box_head, mask_head = BoxHead(4, 7, 8, 3), MaskHead(4, 14, 8, 2, 3)
    small, large = torch.randn(count, 4, 7, 7), torch.randn(count, 4, 14, 14)
    with quiet(), torch.no_grad():
        logits, deltas = box_head(small)
        assert (logits.shape, deltas.shape) == ((count, 3), (count, 12))
        masks = mask_head(large)
        assert masks.shape == (count, 3, 28, 28)
        assert torch.equal(torch.jit.script(box_head)(small)[1], deltas)
        assert torch.equal(torch.jit.script(mask_head)(large), masks)


class Drawer(torch.nn.Module):
    """`MaskHead.of_class` as a module's `forward`, which TorchScript needs."""

    def __init__(self, head: MaskHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return self.head.of_class(pooled, classes)


@pytest.mark.parametrize("norm", [nn.Identity, partial(nn.GroupNorm, 2)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_mask_of_one_class_is_that_among_the_masks_of_all(count: int, norm: Norm) -> None:
    torch.manual_seed(0)
    head, pooled, classes = MaskHead(4, 14, 8, 2, 3, norm), torch.randn(count, 4, 14, 14), torch.arange(count) % 3
    with quiet(), torch.no_grad():
        wanted = head(pooled)[torch.arange(count), classes]
        for draw in (head.of_class, torch.jit.script(Drawer(head))):
            torch.testing.assert_close(draw(pooled, classes), wanted, atol=1e-6, rtol=1e-5)


def test_masks_are_of_float32_in_half_precision_too() -> None:
    head = MaskHead(4, 14, 8, 2, 3).half()
    with torch.no_grad():
        assert head.of_class(torch.randn(2, 4, 14, 14).half(), torch.tensor([2, 0])).dtype == torch.float32


def test_each_class_moves_the_proposal_in_its_own_way_inside_the_image() -> None:
    proposals = torch.tensor([[10.0, 10, 19, 19]])
    deltas = torch.tensor([[0.0, 0, 0, 0, 5.0, 0, 0, 0, 0, -90.0, 0, 0]])  # a tenth of 10 pixels each; 90 too far
    boxes = Candidates(0.05, 0.6, 0.5, 100).decode(proposals[None], deltas, limits([(24, 24)], deltas))[0]
    assert boxes.tolist() == [[[10, 10, 19, 19], [15, 10, 23, 19], [10, 0, 19, 0]]]


def test_detections_of_nothing() -> None:  # quirk Q5
    candidates = Candidates(0.05, 0.6, 0.5, 100)
    assert candidates.instances(torch.zeros(0, 4, 4), torch.zeros(0, 4))[2].tolist() == []
    found = candidates.panoptic(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4))
    assert found.counts.tolist() == [1, 1]
    assert (found.classes[:, 0].tolist(), found.scores[:, 0].tolist()) == ([0, 0], [1, 1])
    assert found.boxes[:, 0].abs().sum() == 0


def two_classes_of_one_place() -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (1, 2, 3, 4) and scores (1, 2, 3) of two proposals for one place, each of another class."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 9]])[None, :, None].expand(1, 2, 3, 4)
    return boxes, torch.tensor([[[0.1, 0.9, 0.0], [0.2, 0.0, 0.8]]])


def test_one_suppression_over_all_classes() -> None:  # quirk Q11
    found = Candidates(0.05, 0.6, 0.5, 100).panoptic(*two_classes_of_one_place())
    assert found.counts.tolist() == [1]
    assert found.classes[0, 0] == 1


def test_instances_of_two_classes_may_share_a_place() -> None:
    boxes, scores = two_classes_of_one_place()
    assert Candidates(0.05, 0.6, 0.5, 100).instances(boxes[0], scores[0])[2].tolist() == [1, 2]


def test_the_limit_lets_equal_scores_pass_together() -> None:
    boxes = 20.0 * torch.arange(5)[:, None] + torch.tensor([0.0, 0, 9, 9])
    boxes = boxes[:, None].expand(5, 2, 4)
    scores = torch.tensor([[0.3, 0.7], [0.1, 0.9], [0.2, 0.8], [0.2, 0.8], [0.9, 0.1]])
    candidates = Candidates(0.05, 0.6, 0.5, 2)
    found = candidates.panoptic(boxes[None], scores[None])
    assert found.counts.tolist() == [3]
    assert found.boxes[0, :3, 0].tolist() == [20, 40, 60]
    assert candidates.instances(boxes, scores)[0][:, 0].tolist() == [20, 40, 60]


def test_equal_scores_never_pass_what_the_map_has_room_for() -> None:
    boxes = (20.0 * torch.arange(5)[:, None] + torch.tensor([0.0, 0, 9, 9]))[:, None].expand(5, 2, 4)
    scores = torch.tensor([[0.0, 1.0]]).expand(5, 2)
    found = Candidates(0.05, 0.6, 0.5, 2, room=3).panoptic(boxes[None], scores[None])
    assert found.counts.tolist() == found.most_of_a_class.tolist() == [3]
    assert found.boxes[0, :3, 0].tolist() == [0, 20, 40]


def test_a_low_threshold_lets_a_proposal_stand_for_two_classes() -> None:
    near, far = [0.0, 0, 9, 9], [30.0, 0, 39, 9]
    boxes = torch.tensor([[near, near, far], [near, near, far]])[None]  # a box a class, of the background too
    scores = torch.tensor([[[0.1, 0.5, 0.4], [1.0, 0.0, 0.0]]])
    found = Candidates(0.05, 0.3, 0.5, 100).panoptic(boxes, scores)
    assert found.counts.tolist() == [2]
    assert found.classes[0, :2].tolist() == [1, 2]


def test_scripted_chooses_the_same() -> None:
    torch.manual_seed(0)
    boxes, scores = torch.rand(2, 30, 4, 4).mul(40), torch.randn(2, 30, 4).mul(2).softmax(2)
    boxes[..., 2:] += boxes[..., :2]
    candidates = Candidates(0.05, 0.3, 0.5, 10)
    with quiet():
        scripted = torch.jit.script(Chooser(candidates))
    for ours, theirs in zip(candidates.panoptic(boxes, scores), scripted(boxes, scores), strict=True):
        assert torch.equal(ours, theirs)


class Chooser(torch.nn.Module):
    """`Candidates.panoptic` as a module's `forward`, which TorchScript needs."""

    def __init__(self, candidates: Candidates) -> None:
        super().__init__()
        self.candidates = candidates

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> list[torch.Tensor]:
        found = self.candidates.panoptic(boxes, scores)
        return [found.boxes, found.scores, found.classes, found.counts, found.most_of_a_class]

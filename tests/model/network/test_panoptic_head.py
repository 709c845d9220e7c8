"""The tiled head against the plain one, and small cases by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import plain
from model.network.panoptic_head import PanopticHead


def random_case(seed: int, count: int, stuff: int = 5, things: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(stuff + things, 24, 32, generator=generator) - 0.5
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([127.0, 95.0])
    far = corner + torch.rand(count, 2, generator=generator) * 70 - 1  # some boxes are thinner than a pixel
    far = torch.minimum(far, torch.tensor([127.0, 95.0]))
    masks = 3 * torch.randn(count, 1, 4, 4, generator=generator) + 1
    masks = F.interpolate(masks, (28, 28), mode="bilinear")[:, 0]
    classes = torch.randint(1, things + 1, (count,), generator=generator)
    return logits, torch.cat([corner, far], 1), masks, classes


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 2, 30])
def test_tiled_and_plain_heads_are_equal(seed: int, count: int) -> None:
    logits, boxes, masks, classes = random_case(seed, count)
    full = F.interpolate(logits[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    channels, keep = plain.panoptic_logits(full, 5, boxes, masks, classes)
    for band in (1, 5, 24):
        decision = PanopticHead(5, band=band)(logits, boxes, masks, classes)
        assert decision.keep.tolist() == keep
        assert torch.equal(decision.segments, plain.panoptic_map(channels))
        assert torch.equal(decision.semantic, full.argmax(0).byte())


def test_an_instance_wins_outside_its_box_where_all_else_is_negative() -> None:  # quirk Q4
    logits = torch.full((3, 8, 8), -1.0)
    logits[2] = -5.0
    masks = torch.full((1, 28, 28), 9.0)
    decision = PanopticHead(2)(logits, torch.tensor([[0.0, 0.0, 7.0, 7.0]]), masks, torch.tensor([1]))
    assert decision.segments.unique().tolist() == [2]


def test_the_placeholder_takes_only_negative_pixels() -> None:  # quirk Q5
    logits = torch.full((3, 8, 8), -1.0)
    logits[2] = -5.0
    logits[0, :, :4] = 3.0
    zeros = torch.zeros(1, 4), torch.ones(1, 28, 28), torch.zeros(1, dtype=torch.int64)
    decision = PanopticHead(2)(logits, *zeros)
    assert decision.segments[:, :12].unique().tolist() == [0]
    assert decision.segments[:, 20:].unique().tolist() == [2]


def test_a_mask_mostly_taken_by_a_better_one_of_its_class_is_dropped() -> None:  # quirk Q10
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 4, 9, 13], [0.0, 4, 9, 13]])
    head = PanopticHead(2)
    keep, _ = head.remove_masks(boxes, torch.ones(3, 28, 28), torch.tensor([1, 1, 2]), 32, 32)
    assert keep == [0, 2]  # 6 of the second's 10 rows are the first's; the third is of another class

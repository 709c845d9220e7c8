"""Which masks stay, in Triton: on a device, or on CPU tensors in Triton's interpreter (see `conftest.py`)."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import masks
from model.kernels.panoptic import float_bits
from model.network import plain
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import panoptic_case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def kept_of_one_image(boxes: Tensor, logits: Tensor, classes: Tensor, size: int) -> list[int]:
    count = len(boxes)
    firsts = torch.zeros(count, dtype=torch.int32)
    placed = masks.place(*(tensor.to(DEVICE) for tensor in (boxes, logits, classes, firsts)))
    areas, taken = (counted.cpu() for counted in masks.count(placed, count, float_bits(0.3), (size, size)))
    return torch.where((areas > 0) & (taken <= (0.3 * areas.double()).floor()))[0].tolist()


def test_they_run_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("masks") == ["_place", "_count_own", "_count_taken"]


def test_a_mask_mostly_taken_by_a_better_one_of_its_class_is_dropped() -> None:  # quirk Q10
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 4, 9, 13], [0.0, 4, 9, 13], [20.0, 20, 29, 29]])
    logits = torch.ones(4, 28, 28)
    logits[3] = -1  # an empty one
    # 6 of the second's 10 rows are the first's; the third is of another class
    assert kept_of_one_image(boxes, logits, torch.tensor([1, 1, 2, 1]), 32) == [0, 2]


def test_masks_lie_where_their_boxes_are_truncated_and_planes_end_rounded() -> None:  # quirk Q8
    boxes, firsts = torch.tensor([[1.9, 2.2, 4.6, 3.4], [1, 2, 4.5, 3.5]]), torch.zeros(2, dtype=torch.int32)
    given = boxes, torch.ones(2, 28, 28), torch.tensor([3, 3]), firsts
    placed = masks.place(*(tensor.to(DEVICE) for tensor in given))
    assert placed.windows.tolist() == [[2, 1, 2, 4, 4, 6, 3, 0], [2, 1, 2, 4, 5, 5, 3, 1]]  # halves to even
    assert placed.scales.tolist() == [[14.0, 7.0]] * 2


def test_masks_over_many_blocks_are_dropped_as_the_plain_head_does() -> None:
    size = 220
    boxes = torch.tensor([[3.0, 2, 215, 210], [60, 60, 219, 219], [0, 0, 219, 90], [5, 5, 200, 206]])
    logits = torch.full((4, 28, 28), 2.0)
    logits[1, :, 14:] = -2
    logits[3, 10:] = -2
    classes = torch.tensor([1, 1, 2, 1])
    assert size * size > masks.PIXELS * masks.BLOCKS
    assert plain.prune_masks(boxes, logits, classes, 0.3, size, size)[0] == [0, 2]
    assert kept_of_one_image(boxes, logits, classes, size) == [0, 2]


def test_more_masks_than_a_program_looks_at_at_once_are_dropped_as_the_plain_head_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masks, "BLOCKS", 2)  # an interpreter is slow
    count, size = 42, 48
    _, found = panoptic_case(5, count)
    boxes, classes = found.boxes.div(3), 1 + torch.arange(count) % 2
    kept = plain.prune_masks(boxes, found.mask_logits, classes, 0.3, size, size)[0]
    assert 0 < sum(i >= masks.LANES for i in kept) < count - masks.LANES, "none is dropped, or all"
    assert kept_of_one_image(boxes, found.mask_logits, classes, size) == kept


def test_a_picture_without_things_compiles_the_removal_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up shows black pictures; else the first request would wait for the compiler."""
    ranks: list[int] = []
    monkeypatch.setattr(masks, "_count_taken", {(1, masks.BLOCKS): lambda *given, **_: ranks.append(given[6])})
    kept_of_one_image(torch.zeros(1, 4), torch.ones(1, 28, 28), torch.zeros(1, dtype=torch.int64), 64)
    assert ranks == [1]

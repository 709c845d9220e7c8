"""The tiled head against the plain one, and small cases by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.archive import quiet
from model.network.panoptic_head import PanopticHead, enlarge_window, highest
from model.network.plain import PlainPanopticHead


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


@pytest.fixture(scope="module", params=[(10, 26), (3, 31), (30, 3), None])
def head(request: pytest.FixtureRequest) -> torch.nn.Module:
    """Tiles of several shapes in TorchScript, and the default as Python."""
    if request.param is None:
        return PanopticHead(5)
    with quiet():
        return torch.jit.script(PanopticHead(5, tile=request.param))  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 2, 30])
def test_tiled_and_plain_heads_are_equal(head: torch.nn.Module, seed: int, count: int) -> None:
    """At a low level of the logits (seeds 4 to 7) instances win outside their boxes, and void where no box is."""
    logits, boxes, masks, classes = random_case(seed, count)
    if seed >= 4:
        logits = logits - 9
    if seed % 2:  # a quarter as sharp: most classes win nowhere in a tile
        logits = F.interpolate(logits[None, :, ::4, ::4], (24, 32), mode="bilinear")[0]
    if seed % 4 == 2:
        boxes[0] = torch.tensor([0.0, 0.0, 127.0, 95.0])  # covers all: its negative plane raises void
    plainly = PlainPanopticHead(5)(logits, boxes, masks, classes)
    decision = head(logits, boxes, masks, classes)
    assert decision.keep.tolist() == plainly.keep.tolist()
    assert torch.equal(decision.segments, plainly.segments)
    assert torch.equal(decision.semantic, plainly.semantic)


@pytest.mark.parametrize("kind", [PanopticHead, PlainPanopticHead])
@pytest.mark.parametrize("things", [True, False])
def test_both_heads_work_on_the_device_of_their_input(kind: type[torch.nn.Module], things: bool) -> None:
    logits, boxes, masks, classes = random_case(0, 9)
    classes = classes * things  # else placeholders: nothing is kept
    wanted = kind(5)(logits, boxes, masks, classes)
    with torch.device("meta"):  # where anything lies that is made without naming a device
        found = kind(5)(logits, boxes, masks, classes)
    assert torch.equal(found.segments, wanted.segments)
    assert torch.equal(found.keep, wanted.keep)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (8, 300), (70, 9), (41, 53)])
def test_tiles_round_as_the_whole_does(rows: int, columns: int) -> None:
    logits = torch.randn(7, rows, columns)
    whole = F.interpolate(logits[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    for y1, x1, y2, x2 in [(0, 0, 4, 4), (1, 3, 32, 32), (13, 17, 14, 30), (0, 1, 4 * rows, 4 * columns)]:
        assert torch.equal(enlarge_window(logits[3], (y1, x1, y2, x2), 4), whole[3, y1:y2, x1:x2])
    best, kind = highest(whole, torch.arange(7, dtype=torch.uint8))
    assert torch.equal(best, whole.max(0)[0])
    assert torch.equal(kind.long(), whole.argmax(0))


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

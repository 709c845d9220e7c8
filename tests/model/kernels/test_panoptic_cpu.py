"""The decision tile by tile against the plain one, and its steps by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels import panoptic_cpu
from model.kernels.panoptic_cpu import (
    MIN_EXTENT,
    InstanceMaxima,
    Span,
    add_zeros_outside,
    covering_span,
    enlarge_window,
    instance_maxima,
    panoptic,
    possible_classes,
    prune_masks,
    semantic_maxima,
    split_axis,
)
from model.network.plain import PlainPanopticHead
from model.network.structures import Detections
from tests.model.network.examples import panoptic_case


def decide(logits: Tensor, found: list[Detections]) -> tuple[Tensor, Tensor, Tensor]:
    boxes, masks, classes = (torch.cat([each[k] for each in found]) for k in (0, 3, 2))
    return panoptic(logits, boxes, masks, classes, [len(each.boxes) for each in found], 0, 5, 0.3)


@pytest.mark.parametrize("tile", [(10, 26), (3, 31), (30, 3), (400, 400)])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 2, 30])
def test_tiles_of_any_shape_give_the_plain_heads_decision(
    tile: tuple[int, int], seed: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a low level of the logits (seeds 4 to 7) instances win outside their boxes, and void where no box is."""
    monkeypatch.setattr(panoptic_cpu, "TILE", tile)
    logits, found = panoptic_case(seed, count)
    if seed >= 4:
        logits = logits - 9
    if seed % 2:  # a quarter as sharp: most classes win nowhere in a tile
        logits = F.interpolate(logits[None, :, ::4, ::4], (24, 32), mode="bilinear")[0]
    if seed % 4 == 2:
        found.boxes[0] = torch.tensor([0.0, 0.0, 127.0, 95.0])  # covers all: its negative plane raises void
    wanted = PlainPanopticHead(5, 0.3).decide(logits, found)
    channels, semantic, order = decide(logits[None], [found])
    assert order[: len(wanted.order)].tolist() == wanted.order.tolist()
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(channels[0], wanted.channels)
    assert torch.equal(semantic[0], wanted.semantic)


@pytest.mark.parametrize("things", [True, False])
def test_it_works_on_the_device_of_its_input(things: bool) -> None:
    logits, found = panoptic_case(0, 9)
    found = found._replace(classes=found.classes * things)  # else placeholders: none is kept
    wanted = decide(logits[None], [found])
    with torch.device("meta"):  # where anything lies that is made without naming a device
        decided = decide(logits[None], [found])
    for ours, theirs in zip(decided[:2], wanted[:2], strict=True):
        assert torch.equal(ours, theirs)


def test_candidates_are_counted_from_the_first_of_their_image() -> None:
    cases = [panoptic_case(seed, count) for seed, count in ((0, 4), (1, 3))]
    together = decide(torch.stack([case[0] for case in cases]), [case[1] for case in cases])
    alone = [decide(logits[None], [found]) for logits, found in cases]
    for k in range(3):
        assert torch.equal(together[k], torch.cat([one[k] for one in alone]))


def test_a_mask_mostly_taken_by_a_better_one_of_its_class_is_dropped() -> None:  # quirk Q10
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 4, 9, 13], [0.0, 4, 9, 13]])
    kept, windows = prune_masks(boxes, torch.ones(3, 28, 28), torch.tensor([1, 1, 2]), 0.3, (32, 32))
    assert kept == [0, 2]  # 6 of the second's 10 rows are the first's; the third is of another class
    assert [tuple(window.shape) for window in windows] == [(10, 10), (10, 10)]


def test_nothing_kept_leaves_the_first_candidate_without_a_mask() -> None:  # quirk Q6
    kept, windows = prune_masks(torch.tensor([[0.0, 0, 9, 9]]), -torch.ones(1, 28, 28), torch.tensor([1]), 0.3, (8, 8))
    assert kept == [0]
    assert windows[0].numel() == 0


def test_a_mask_ends_where_the_image_does() -> None:
    windows = prune_masks(torch.tensor([[4.0, 2, 20, 30]]), torch.ones(1, 28, 28), torch.tensor([1]), 0.3, (8, 16))[1]
    assert windows[0].shape == (6, 12)


def test_an_instance_bids_its_plane_and_mask_inside_its_box_only() -> None:
    """A thing at 3 in the left upper 4 x 4 pixels of 8 x 8, its mask at 0.5 there."""
    logits = torch.stack([torch.zeros(2, 2), torch.full((2, 2), 3.0)])
    box, mask = torch.tensor([[0.0, 0, 3, 3]]), torch.full((4, 4), 0.5)
    maxima, uncovered = instance_maxima(logits, box, torch.tensor([1]), [mask], 1)
    assert maxima.logit[:4, :4].unique().tolist() == [3.5]
    assert maxima.semantic[:4, :4].unique().tolist() == [3.0]
    assert maxima.logit[4:].unique().tolist() == maxima.logit[:, 4:].unique().tolist() == [-torch.inf]
    assert uncovered[:4, :4].unique().tolist() == [1]
    assert uncovered[4:].unique().tolist() == [0]


def test_the_zero_of_the_first_instance_elsewhere_beats_a_negative_logit() -> None:  # quirk Q4
    maxima = InstanceMaxima(torch.tensor([-1.0, 2.0, 0.0]), torch.tensor([1, 1, 1]).byte(), torch.full((3,), -3.0))
    found = add_zeros_outside(maxima, torch.tensor([0, 0, 0]).byte(), 2)
    assert found.logit.tolist() == [0, 2, 0]
    assert found.winner.tolist() == [0, 1, 0]  # of equal ones the first
    assert found.semantic.tolist() == [0, 0, 0]
    assert add_zeros_outside(maxima, torch.tensor([2, 2, 2]).byte(), 2).logit.tolist() == [-1, 2, 0]  # all cover them


@pytest.mark.parametrize(("rises", "things"), [(False, [False, False]), (True, [False, True])])
def test_a_class_that_is_lower_everywhere_cannot_win(rises: bool, things: list[bool]) -> None:
    """Two stuff classes at 5 and 1, two thing classes at 0 and 3, on 2 x 2 logits."""
    logits = torch.tensor([5.0, 1, 0, 3])[:, None, None].expand(4, 2, 2)
    assert possible_classes(logits, 2, torch.tensor(0.0), rises)[:, 0].tolist() == [True, False, *things]


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (8, 300), (70, 9), (41, 53)])
def test_tiles_round_as_the_whole_does(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, rows, columns)
    whole = F.interpolate(logits[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    for y1, x1, y2, x2 in [(0, 0, 4, 4), (1, 3, 32, 32), (13, 17, 14, 30), (0, 1, 4 * rows, 4 * columns)]:
        assert torch.equal(enlarge_window(logits[3], (y1, x1, y2, x2)), whole[3, y1:y2, x1:x2])
    tiles = split_axis(columns, max(26, MIN_EXTENT - rows))
    every = torch.ones(7, columns - 1, dtype=torch.bool)
    best, index = semantic_maxima(logits, every, Span(0, rows, 0, rows), tiles, 4)
    for k, part in enumerate((slice(4), slice(4, None))):
        assert torch.equal(best[k], whole[part].amax(0))
        assert torch.equal(index[k].long(), whole[part].argmax(0) + (part.start or 0))


def test_pieces_of_an_axis_reach_one_position_beyond_what_they_give() -> None:
    assert split_axis(10, 5) == [Span(0, 5, 0, 4), Span(3, 8, 4, 7), Span(5, 10, 7, 10)]
    assert split_axis(3, 5) == [Span(0, 3, 0, 3)]
    assert covering_span(17, 30, 20, 1) == Span(3, 9, 4, 8)  # pixels 16 to 31 are of positions 4 to 7
    assert covering_span(17, 30, 20, 12) == Span(3, 15, 4, 8)
    assert covering_span(72, 80, 20, 12) == Span(8, 20, 18, 20)

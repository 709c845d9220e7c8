"""The panoptic decision on a CPU, and on a GPU without Triton: tile by tile, without the logits at full size.

For one image at 800 x 1344 with 53 stuff classes and 100 instances they would take 0.7 GB. Here each instance touches
its own box only, and the semantic logits are enlarged tile by tile, only of the classes that can win in the tile. An
enlarged logit lies between the four that it comes from. So a class loses between four logits if its largest of them is
below the smallest of another class. `model.network.plain` is the same arithmetic written plainly; the results are
equal.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 4  # pixels along a side of a semantic logit
TILE = (10, 26)  # rows and columns of semantic logits that are enlarged at once
MIN_EXTENT = 33  # least sum of a tile's sides: torch's enlargement rounds otherwise if both become 128 or less


class Span(NamedTuple):
    """A piece of an axis of the logits, and the positions to enlarge for it.

    Attributes:
        low: first position to enlarge.
        high: end of the positions to enlarge.
        start: first position of the piece.
        stop: end of the piece.
    """

    low: int
    high: int
    start: int
    stop: int


class InstanceMaxima(NamedTuple):
    """The highest logits of the instances at each pixel, (H, W) each.

    Attributes:
        logit: highest sum of an instance's semantic and mask logit.
        winner: uint8, the instance that has it.
        semantic: highest semantic logit of an instance, without the mask's (quirk Q9).
    """

    logit: Tensor
    winner: Tensor
    semantic: Tensor


def panoptic(
    logits: Tensor,
    boxes: Tensor,
    masks: Tensor,
    classes: Tensor,
    counts: list[int],
    max_per_class: int,  # noqa: ARG001 -- only a GPU needs to know
    stuff: int,
    overlap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `model.ops.panoptic`, image by image."""
    logits = logits.contiguous()  # torch's enlargement rounds otherwise in channels-last
    size = (STRIDE * logits.size(2), STRIDE * logits.size(3))
    given = zip(logits, boxes.cpu().split(counts), masks.split(counts), classes.cpu().split(counts), strict=True)
    channels, semantic = [], []
    order: list[int] = []
    for planes, its_boxes, its_masks, its_classes in given:
        kept, windows = prune_masks(its_boxes, its_masks, its_classes, overlap, size)
        maxima, uncovered = instance_maxima(planes, its_boxes[kept], its_classes[kept], windows, stuff)
        decided = decide_pixels(planes, maxima, uncovered, len(kept), stuff)
        channels.append(decided[0])
        semantic.append(decided[1])
        order += kept + [k for k in range(len(its_boxes)) if k not in kept]
    return torch.stack(channels), torch.stack(semantic), torch.tensor(order, device=logits.device)


def prune_masks(
    boxes: Tensor, masks: Tensor, classes: Tensor, overlap: float, size: tuple[int, int]
) -> tuple[list[int], list[Tensor]]:
    """Drop candidates whose mask is empty or mostly taken by better ones of the same class (quirk Q10).

    Returns:
        Indices of the kept candidates, and the mask logits of each one's window, cut at the canvas of this size.
        Nothing kept: index 0 and a mask of no pixels (quirk Q6).
    """
    canvases: dict[int, Tensor] = {}
    kept: list[int] = []
    windows: list[Tensor] = []
    for i, (box, kind) in enumerate(zip(boxes.tolist(), classes.tolist(), strict=True)):
        if kind == 0:  # the placeholder has no mask (quirk Q5)
            continue
        x1, y1, x2, y2 = (int(side) for side in box)  # truncated (quirk Q8)
        sides = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        resized = F.interpolate(masks[i][None, None], sides, mode="bilinear", align_corners=False)
        window = resized[0, 0, : max(size[0] - y1, 0), : max(size[1] - x1, 0)]
        mask = window > 0
        if kind not in canvases:
            canvases[kind] = torch.zeros(size, dtype=torch.bool, device=masks.device)
        canvas = canvases[kind][y1 : y1 + sides[0], x1 : x1 + sides[1]]
        area, taken = int(mask.sum()), int((mask & canvas).sum())
        if area > 0 and taken / area <= overlap:
            canvas |= mask
            kept.append(i)
            windows.append(window)
    if not kept:
        return [0], [masks.new_zeros((0, 0))]
    return kept, windows


def instance_maxima(
    logits: Tensor, boxes: Tensor, classes: Tensor, windows: list[Tensor], stuff: int
) -> tuple[InstanceMaxima, Tensor]:
    """The highest logits of the instances inside their boxes.

    Args:
        logits: (S, h, w) semantic logits.
        boxes: (k, 4) boxes of the instances, in channel order.
        classes: (k,) their classes, 0 for the placeholder.
        windows: mask logits of each one's window.
        stuff: number of stuff classes.

    Returns:
        The maxima over the instances whose box covers the pixel (-inf for none), and (H, W) uint8 the first instance
        whose box does not cover it.
    """
    height, width = STRIDE * logits.size(1), STRIDE * logits.size(2)
    best = logits.new_full((height, width), -torch.inf)
    semantic = best.clone()
    winner = torch.zeros_like(best, dtype=torch.uint8)
    uncovered = winner.clone()
    for i, (box, kind, window) in enumerate(zip(boxes.tolist(), classes.tolist(), windows, strict=True)):
        x1, y1 = int(box[0]), int(box[1])
        x2, y2 = min(round(box[2]) + 1, width), min(round(box[3]) + 1, height)  # rounded (quirk Q8)
        bottom, right = max(y2, y1 + window.size(0)), max(x2, x1 + window.size(1))
        if kind == 0 or y1 >= bottom or x1 >= right:
            continue
        place = slice(y1, bottom), slice(x1, right)
        logit = best.new_zeros((bottom - y1, right - x1))
        if y1 < y2 and x1 < x2:
            logit[: y2 - y1, : x2 - x1] = enlarge_window(logits[stuff - 1 + kind], (y1, x1, y2, x2))
        torch.maximum(semantic[place], logit, out=semantic[place])
        logit[: window.size(0), : window.size(1)] += window
        winner[place].masked_fill_(logit > best[place], i)
        torch.maximum(best[place], logit, out=best[place])
        uncovered[place] += uncovered[place] == i
    return InstanceMaxima(best, winner, semantic), uncovered


def decide_pixels(
    logits: Tensor, maxima: InstanceMaxima, uncovered: Tensor, instances: int, stuff: int
) -> tuple[Tensor, Tensor]:
    """Panoptic channel and best semantic class of every pixel, (H, W) uint8 each.

    Args:
        logits: (S, h, w) semantic logits.
        maxima: highest logits of the instances inside their boxes.
        uncovered: (H, W) uint8, the first instance whose box does not cover the pixel.
        instances: number of instances.
        stuff: number of stuff classes.
    """
    channels, semantic = torch.empty_like(uncovered), torch.empty_like(uncovered)
    rows, columns = logits.size(1), logits.size(2)
    slack = 1e-6 * torch.maximum(logits.amax(), -logits.amin())  # an enlarged logit is rounded
    tall = min(max(TILE[0], MIN_EXTENT - min(TILE[1], columns)), rows)
    tiles = split_axis(columns, max(TILE[1], MIN_EXTENT - tall))
    for band in split_axis(rows, tall):
        lines = slice(STRIDE * band.start, STRIDE * band.stop)
        reached = add_zeros_outside(InstanceMaxima(*(plane[lines] for plane in maxima)), uncovered[lines], instances)
        low = logits[:, band.low : band.high]
        possible = possible_classes(low, stuff, slack, bool((reached.semantic < 0).any()))
        best, index = semantic_maxima(low, possible, band, tiles, stuff)
        void = best[1] - reached.semantic > torch.maximum(reached.logit, best[0])
        decided = torch.where(reached.logit > best[0], reached.winner + stuff, index[0])
        channels[lines] = decided.masked_fill_(void, 255)
        semantic[lines] = torch.where(best[1] > best[0], index[1], index[0])
    return channels, semantic


def add_zeros_outside(maxima: InstanceMaxima, uncovered: Tensor, instances: int) -> InstanceMaxima:
    """The maxima over all instances: one whose box does not cover a pixel has logit 0 there (quirk Q4).

    The first of several such zeros wins, so the first instance that does not cover the pixel is enough.
    """
    outside = uncovered < instances
    best, winner = maxima.logit, maxima.winner
    zero_wins = outside & ((best < 0) | ((best == 0) & (uncovered < winner)))
    return InstanceMaxima(
        best.masked_fill(zero_wins, 0.0),
        torch.where(zero_wins, uncovered, winner),
        torch.where(outside, maxima.semantic.clamp(min=0), maxima.semantic),
    )


def possible_classes(logits: Tensor, stuff: int, slack: Tensor, void_rises: bool) -> Tensor:
    """(S, w - 1) bool: which classes can win between two neighbouring columns of these logits (S, rows, w).

    A stuff class must beat the other stuff. A thing class must beat the other things, and stuff as well: otherwise it
    changes neither the semantic map nor void. Void is at most the best thing logit, unless all instances cover a pixel
    with negative semantic logits; then it is higher (`void_rises`).
    """
    high, low = torch.maximum(logits[:, 1:], logits[:, :-1]), torch.minimum(logits[:, 1:], logits[:, :-1])
    high, low = torch.maximum(high[..., 1:], high[..., :-1]), torch.minimum(low[..., 1:], low[..., :-1])
    best_stuff = low[:stuff].amax(0) - slack
    best_thing = low[stuff:].amax(0) - slack
    if not void_rises:
        best_thing = torch.maximum(best_thing, best_stuff)
    loses = torch.cat([(high[:stuff] < best_stuff).all(1), (high[stuff:] < best_thing).all(1)])
    return ~loses  # a NaN never loses


def semantic_maxima(
    logits: Tensor, possible: Tensor, rows: Span, tiles: list[Span], stuff: int
) -> tuple[Tensor, Tensor]:
    """The highest semantic logits of a band, of stuff and of things: (2, H, W), -inf for none, and their classes.

    This takes three vectorised passes; `max` with indices is not vectorised. The first of equal classes is the one with
    the largest complement.

    Args:
        logits: (S, rows.low:high, w) semantic logits of the band.
        possible: (S, w - 1), see `possible_classes`.
        rows: rows of the band.
        tiles: columns of each tile.
        stuff: number of stuff classes.
    """
    size = (2, STRIDE * (rows.stop - rows.start), STRIDE * logits.size(2))
    best = logits.new_full(size, -torch.inf)
    complement = torch.zeros_like(best, dtype=torch.uint8)
    for tile in tiles:
        classes = torch.where(possible[:, tile.low : tile.high - 1].any(1))[0]
        enlarged = enlarge(logits[:, :, tile.low : tile.high].index_select(0, classes), rows, tile)
        columns = slice(STRIDE * tile.start, STRIDE * tile.stop)
        complements = ~classes.byte()[:, None, None]
        split = int((classes < stuff).sum())
        for part, kinds in enumerate((slice(split), slice(split, None))):
            if len(complements[kinds]):
                highest = torch.amax(enlarged[kinds], 0, out=best[part, :, columns])
                equal = (enlarged[kinds] == highest).view(torch.uint8)
                torch.amax(equal.mul_(complements[kinds]), 0, out=complement[part, :, columns])
    return best, ~complement


def enlarge(logits: Tensor, rows: Span, columns: Span) -> Tensor:
    """(S, rows.low:high, columns.low:high) logits at full size (bilinear), cut to what start:stop became."""
    whole = F.interpolate(logits[None], scale_factor=float(STRIDE), mode="bilinear", align_corners=False)[0]
    top, left = STRIDE * (rows.start - rows.low), STRIDE * (columns.start - columns.low)
    return whole[:, top : STRIDE * (rows.stop - rows.low), left : STRIDE * (columns.stop - columns.low)]


def enlarge_window(plane: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Rows y1:y2 and columns x1:x2, given as y1, x1, y2, x2, of a plane (h, w) at full size."""
    y1, x1, y2, x2 = window
    rows = covering_span(y1, y2, plane.size(0), 17)
    columns = covering_span(x1, x2, plane.size(1), MIN_EXTENT - (rows.high - rows.low))
    rows = covering_span(y1, y2, plane.size(0), MIN_EXTENT - (columns.high - columns.low))
    enlarged = enlarge(plane[None, rows.low : rows.high, columns.low : columns.high], rows, columns)
    top, left = y1 - STRIDE * rows.start, x1 - STRIDE * columns.start
    return enlarged[0, top : top + y2 - y1, left : left + x2 - x1]


def covering_span(first: int, last: int, length: int, size: int) -> Span:
    """The piece of an axis that gives the pixels first:last, with at least `size` positions where the axis has them."""
    start, stop = first // STRIDE, (last + STRIDE - 1) // STRIDE
    low, high = max(start - 1, 0), min(stop + 1, length)
    high = min(max(high, low + size), length)
    return Span(max(min(low, high - size), 0), high, start, stop)


def split_axis(length: int, size: int) -> list[Span]:
    """Pieces that cover an axis. Each is enlarged from `size` positions: its own, and one neighbour on each side."""
    size = min(size, length)
    pieces: list[Span] = []
    start = 0
    while start < length:
        low = min(max(start - 1, 0), length - size)
        stop = length if low + size == length else low + size - 1
        pieces.append(Span(low, low + size, start, stop))
        start = stop
    return pieces

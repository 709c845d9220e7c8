"""The panoptic head on a device: one decision a pixel for a whole batch, without a logit at full size.

The arithmetic is that of `model.network.plain`, quirks Q4 to Q10 included.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels import masks as thing_masks
from model.kernels.masks import SIDE, bilinear, mask_logit

ROWS, COLUMNS = 8, 64  # of a tile


@triton.jit
def _semantic_logit(plane, y, x, rows, columns, inside):  # type: ignore[no-untyped-def]
    """A (rows, columns) plane enlarged four times, at rows y and columns x of the enlargement."""
    v = tl.maximum(0.25 * (y.to(tl.float32) + 0.5) - 0.5, 0.0)
    u = tl.maximum(0.25 * (x.to(tl.float32) + 0.5) - 0.5, 0.0)
    return bilinear(plane, v, u, rows, columns, inside)


@triton.jit
def _best_class(planes, first, last, y, x, rows, columns, inside):  # type: ignore[no-untyped-def]
    """The highest logit of classes first:last at each pixel, and its class, the first of equal ones."""
    best = tl.full(y.shape, float("-inf"), dtype=tl.float32)
    index = tl.zeros(y.shape, dtype=tl.int32)
    for k in range(first, last):
        value = _semantic_logit(planes + k * rows * columns, y, x, rows, columns, inside)
        index = tl.where(value > best, k, index)
        best = tl.maximum(best, value)
    return best, index


@triton.jit
def _bid(  # type: ignore[no-untyped-def]
    planes, masks, row, scale, i, show, stuff, y, x, rows, columns, inside, first_y, first_x,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """Semantic and mask logit of one instance at each pixel of a tile; 0 outside its box."""
    top, left, kind = tl.load(row), tl.load(row + 1), tl.load(row + 6)
    bottom, right = tl.load(row + 4), tl.load(row + 5)  # of the semantic plane
    mask_bottom, mask_right = top + tl.where(show > 1, tl.load(row + 2), 0), left + tl.load(row + 3)
    plane = tl.zeros(y.shape, dtype=tl.float32)
    mask = plane
    reaches = (first_y < tl.maximum(bottom, mask_bottom)) & (first_x < tl.maximum(right, mask_right))
    if (kind > 0) & reaches & (first_y + ROWS > top) & (first_x + COLUMNS > left):
        after = inside & (y >= top) & (x >= left)
        covered = after & (y < bottom) & (x < right)
        source = planes + (stuff - 1 + kind) * rows * columns
        plane = tl.where(covered, _semantic_logit(source, y, x, rows, columns, covered), 0.0)
        masked = after & (y < mask_bottom) & (x < mask_right)
        logit = mask_logit(masks, i, y - top, x - left, tl.load(scale), tl.load(scale + 1), masked, SIDE)
        mask = tl.where(masked, logit, 0.0)
    return plane, mask


@triton.jit(do_not_specialize=["rows", "columns"])  # one compilation for all sizes of pictures
def _decide(  # type: ignore[no-untyped-def]
    logits,  # (N, S, h, w) float32
    masks,
    windows,
    scales,
    shown,  # (n,) int8: 0 absent, 1 semantic plane only (quirk Q6), 2 with its mask
    starts,  # (N + 1,) int32
    segments,  # (N, 4 h, 4 w) uint8
    semantic,  # the same
    classes,
    stuff,
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SIDE: tl.constexpr,
):
    """One tile of one image: running maxima over stuff, things and instances, then void."""
    image = tl.program_id(2)
    pixel = tl.arange(0, ROWS * COLUMNS)
    first_y, first_x = tl.program_id(1) * ROWS, tl.program_id(0) * COLUMNS
    y, x = first_y + pixel // COLUMNS, first_x + pixel % COLUMNS
    inside = (y < 4 * rows) & (x < 4 * columns)
    planes = logits + image.to(tl.int64) * classes * rows * columns
    stuff_best, stuff_index = _best_class(planes, 0, stuff, y, x, rows, columns, inside)
    thing_best, thing_index = _best_class(planes, stuff, classes, y, x, rows, columns, inside)
    best = tl.full(y.shape, float("-inf"), dtype=tl.float32)
    plane_best, winner, channel = best, tl.zeros(y.shape, dtype=tl.int32), 0
    for i in range(tl.load(starts + image), tl.load(starts + image + 1)):
        show = tl.load(shown + i)
        if show > 0:
            plane, mask = _bid(
                planes, masks, windows + 8 * i, scales + 2 * i, i, show, stuff, y, x, rows, columns, inside,
                first_y, first_x, ROWS, COLUMNS, SIDE,
            )  # fmt: skip
            plane_best = tl.maximum(plane_best, plane)  # quirk Q9: without the mask
            value = plane + mask  # 0 outside the box, and competing there (quirk Q4)
            winner = tl.where(value > best, channel, winner)
            best = tl.maximum(best, value)
            channel += 1
    chosen = tl.where(best > stuff_best, stuff + winner, stuff_index)
    chosen = tl.where(thing_best - plane_best > tl.maximum(best, stuff_best), 255, chosen)
    place = (image.to(tl.int64) * 4 * rows + y) * 4 * columns + x
    tl.store(segments + place, chosen.to(tl.uint8), mask=inside)
    seen = tl.where(thing_best > stuff_best, thing_index, stuff_index)
    tl.store(semantic + place, seen.to(tl.uint8), mask=inside)


def panoptic(
    logits: Tensor,
    boxes: Tensor,
    masks: Tensor,
    classes: Tensor,
    counts: list[int],
    max_per_class: int,
    stuff: int,
    overlap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `model.ops.panoptic`."""
    images, kinds, rows, columns = logits.shape
    owner = torch.cat([torch.full_like(classes[:1].expand(count), i) for i, count in enumerate(counts)])
    starts = torch.zeros(images + 1, dtype=torch.int32, device=logits.device)
    starts[1:] = torch.cumsum(torch.cat([starts[:1] + count for count in counts]), 0)
    placed = thing_masks.place(boxes, masks, classes)
    kept = thing_masks.prune(placed, owner, starts, max_per_class, overlap, (4 * rows, 4 * columns))
    alive = torch.zeros(images, dtype=torch.int32, device=logits.device).index_add(0, owner, kept.int())
    first = starts[owner]
    lone = (torch.arange(len(boxes), device=logits.device) == first) & (alive[owner] == 0)  # quirks Q5, Q6
    shown = torch.where(lone, 1, 2 * kept).to(torch.int8)
    segments = torch.empty((images, 4 * rows, 4 * columns), dtype=torch.uint8, device=logits.device)
    semantic = torch.empty_like(segments)
    grid = (triton.cdiv(4 * columns, COLUMNS), triton.cdiv(4 * rows, ROWS), images)
    arguments = (logits.contiguous(), *placed, shown, starts, segments, semantic, kinds, stuff, rows, columns)
    _decide[grid](*arguments, ROWS, COLUMNS, SIDE, enable_fp_fusion=False)
    order = torch.argsort(2 * owner + (shown == 0), stable=True) - first
    return segments, semantic, order

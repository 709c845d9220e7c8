"""The panoptic head on a device: one decision a pixel for a whole batch, without a logit at full size.

The arithmetic is that of `network/plain.py`: SPEC 13, quirks Q4 to Q10.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE = 28  # of a mask


@triton.jit
def _mask_logit(masks, i, y, x, scale_y, scale_x, inside, SIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mask i enlarged to its window, at rows y and columns x of the window (bilinear, half-pixel centres)."""
    v = tl.maximum(scale_y * (y.to(tl.float32) + 0.5) - 0.5, 0.0)
    u = tl.maximum(scale_x * (x.to(tl.float32) + 0.5) - 0.5, 0.0)
    top, left = tl.minimum(v.to(tl.int32), SIDE - 1), tl.minimum(u.to(tl.int32), SIDE - 1)
    bottom, right = tl.minimum(top + 1, SIDE - 1), tl.minimum(left + 1, SIDE - 1)
    dy, dx = v - top.to(tl.float32), u - left.to(tl.float32)
    plane = masks + i * SIDE * SIDE
    a = tl.load(plane + top * SIDE + left, mask=inside, other=0.0)
    b = tl.load(plane + top * SIDE + right, mask=inside, other=0.0)
    c = tl.load(plane + bottom * SIDE + left, mask=inside, other=0.0)
    d = tl.load(plane + bottom * SIDE + right, mask=inside, other=0.0)
    return (1 - dy) * ((1 - dx) * a + dx * b) + dy * ((1 - dx) * c + dx * d)


@triton.jit(do_not_specialize=["rank", "height", "width"])  # a number of 1 or of 16 would compile anew
def _count_overlaps(  # type: ignore[no-untyped-def]
    masks,  # (n, 28, 28) float32
    windows,  # (n, 8) int32, see `_windows`
    scales,  # (n, 2) float32
    places,  # (n, 2) int32: first candidate of the image, rank within image and class
    counts,  # (n, 2) int32: pixels of the mask; those that better masks of its class have
    kept,  # (n,) int8, decided for lower ranks
    rank,
    height,
    width,
    PIXELS: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Counts for one candidate and one block of its window; all of one rank at a time, so better ones are decided."""
    i = tl.program_id(0)
    row = windows + 8 * i
    top, left = tl.load(row), tl.load(row + 1)
    rows, columns = tl.minimum(tl.load(row + 2), height - top), tl.minimum(tl.load(row + 3), width - left)
    kind = tl.load(row + 6)
    first = tl.program_id(1) * PIXELS
    if (tl.load(places + 2 * i + 1) == rank) & (first < rows * columns) & (kind > 0):
        pixel = first + tl.arange(0, PIXELS)
        inside = pixel < rows * columns
        y, x = pixel // columns, pixel % columns
        mine = _mask_logit(masks, i, y, x, tl.load(scales + 2 * i), tl.load(scales + 2 * i + 1), inside, SIDE) > 0
        mine = mine & inside
        taken = tl.zeros((PIXELS,), dtype=tl.int1)
        for j in range(tl.load(places + 2 * i), i):
            other = windows + 8 * j
            if (tl.load(other + 6) == kind) & (tl.load(kept + j) > 0):
                v, u = y + top - tl.load(other), x + left - tl.load(other + 1)
                covered = mine & (v >= 0) & (v < tl.load(other + 2)) & (u >= 0) & (u < tl.load(other + 3))
                theirs = _mask_logit(
                    masks, j, v, u, tl.load(scales + 2 * j), tl.load(scales + 2 * j + 1), covered, SIDE
                )
                taken = taken | (covered & (theirs > 0))
        tl.atomic_add(counts + 2 * i, tl.sum(mine.to(tl.int32), 0))
        tl.atomic_add(counts + 2 * i + 1, tl.sum((mine & taken).to(tl.int32), 0))


@triton.jit
def _semantic_logit(plane, y, x, rows, columns, inside):  # type: ignore[no-untyped-def]
    """A (rows, columns) plane enlarged four times, at rows y and columns x of the enlargement."""
    v = tl.maximum(0.25 * (y.to(tl.float32) + 0.5) - 0.5, 0.0)
    u = tl.maximum(0.25 * (x.to(tl.float32) + 0.5) - 0.5, 0.0)
    top, left = v.to(tl.int32), u.to(tl.int32)
    bottom, right = tl.minimum(top + 1, rows - 1), tl.minimum(left + 1, columns - 1)
    dy, dx = v - top.to(tl.float32), u - left.to(tl.float32)
    a = tl.load(plane + top * columns + left, mask=inside, other=0.0)
    b = tl.load(plane + top * columns + right, mask=inside, other=0.0)
    c = tl.load(plane + bottom * columns + left, mask=inside, other=0.0)
    d = tl.load(plane + bottom * columns + right, mask=inside, other=0.0)
    return (1 - dy) * ((1 - dx) * a + dx * b) + dy * ((1 - dx) * c + dx * d)


@triton.jit(do_not_specialize=["rows", "columns"])
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
    height, width = 4 * rows, 4 * columns
    pixel = tl.arange(0, ROWS * COLUMNS)
    first_y, first_x = tl.program_id(1) * ROWS, tl.program_id(0) * COLUMNS
    y, x = first_y + pixel // COLUMNS, first_x + pixel % COLUMNS
    inside = (y < height) & (x < width)
    planes = logits + image.to(tl.int64) * classes * rows * columns
    lowest = tl.full((ROWS * COLUMNS,), float("-inf"), dtype=tl.float32)
    stuff_best, thing_best, best, plane_best = lowest, lowest, lowest, lowest
    stuff_index = tl.zeros((ROWS * COLUMNS,), dtype=tl.int32)
    thing_index, winner = stuff_index, stuff_index
    for k in range(stuff):
        value = _semantic_logit(planes + k * rows * columns, y, x, rows, columns, inside)
        stuff_index = tl.where(value > stuff_best, k, stuff_index)
        stuff_best = tl.maximum(stuff_best, value)
    for k in range(stuff, classes):
        value = _semantic_logit(planes + k * rows * columns, y, x, rows, columns, inside)
        thing_index = tl.where(value > thing_best, k, thing_index)
        thing_best = tl.maximum(thing_best, value)
    channel = 0
    for i in range(tl.load(starts + image), tl.load(starts + image + 1)):
        show = tl.load(shown + i)
        if show > 0:
            row = windows + 8 * i
            top, left, kind = tl.load(row), tl.load(row + 1), tl.load(row + 6)
            bottom, right = tl.load(row + 4), tl.load(row + 5)  # of the semantic plane
            mask_bottom = top + tl.where(show > 1, tl.load(row + 2), 0)
            mask_right = left + tl.load(row + 3)
            plane = tl.zeros((ROWS * COLUMNS,), dtype=tl.float32)
            mask = plane
            reaches = (first_y < tl.maximum(bottom, mask_bottom)) & (first_x < tl.maximum(right, mask_right))
            if (kind > 0) & reaches & (first_y + ROWS > top) & (first_x + COLUMNS > left):
                after = inside & (y >= top) & (x >= left)
                covered = after & (y < bottom) & (x < right)
                source = planes + (stuff - 1 + kind) * rows * columns
                plane = tl.where(covered, _semantic_logit(source, y, x, rows, columns, covered), 0.0)
                masked = after & (y < mask_bottom) & (x < mask_right)
                scale_y, scale_x = tl.load(scales + 2 * i), tl.load(scales + 2 * i + 1)
                mask = _mask_logit(masks, i, y - top, x - left, scale_y, scale_x, masked, SIDE)
                mask = tl.where(masked, mask, 0.0)
            plane_best = tl.maximum(plane_best, plane)  # quirk Q9: without the mask
            value = plane + mask  # 0 outside the box, and competing there (quirk Q4)
            winner = tl.where(value > best, channel, winner)
            best = tl.maximum(best, value)
            channel += 1
    chosen = tl.where(best > stuff_best, stuff + winner, stuff_index)
    chosen = tl.where(thing_best - plane_best > tl.maximum(best, stuff_best), 255, chosen)
    place = (image.to(tl.int64) * height + y) * width + x
    tl.store(segments + place, chosen.to(tl.uint8), mask=inside)
    seen = tl.where(thing_best > stuff_best, thing_index, stuff_index)
    tl.store(semantic + place, seen.to(tl.uint8), mask=inside)


def _windows(boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 8) int32: y1, x1, mask rows, mask columns, semantic y2, x2, class, 0; and (n, 2) float32 mask scales."""
    corner = boxes.to(torch.int32)  # truncated (quirk Q8)
    far = boxes[:, 2:].round().to(torch.int32) + 1
    sides = (corner[:, 2:] - corner[:, :2] + 1).clamp(min=1)
    kind = classes.to(torch.int32)
    columns = [corner[:, 1], corner[:, 0], sides[:, 1], sides[:, 0], far[:, 1], far[:, 0], kind, torch.zeros_like(kind)]
    return torch.stack(columns, dim=1), float(SIDE) / sides.flip(1).float()


def panoptic(
    logits: Tensor,
    boxes: Tensor,
    masks: Tensor,
    classes: Tensor,
    counts: list[int],
    alike: int,
    stuff: int,
    overlap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decide every pixel of a batch.

    Args:
        logits: (N, S, h, w) float32.
        boxes: (n, 4) float32 candidates of all images, each image's by descending score, at least one each.
        masks: (n, 28, 28) float32.
        classes: (n,) 1..T, or 0 for the placeholder.
        counts: candidates of each image.
        alike: most candidates of one class in an image.
        stuff: U.
        overlap: share of its mask that a candidate may lose to better ones of its class.

    Returns:
        segments and semantic map (N, 4 h, 4 w) uint8, and (n,) the candidates of each image, counted from its first,
        in channel order; those that were removed follow.
    """
    images, kinds, rows, columns = logits.shape
    logits, masks = logits.contiguous(), masks.contiguous()
    windows, scales = _windows(boxes, classes)
    scales = scales.contiguous()
    owner = torch.cat([torch.full_like(classes[:1].expand(count), i) for i, count in enumerate(counts)])
    starts = torch.zeros(images + 1, dtype=torch.int32, device=logits.device)
    starts[1:] = torch.cumsum(torch.cat([starts[:1] + count for count in counts]), 0)
    same = (owner[:, None] == owner) & (classes[:, None] == classes)
    rank = same.tril(-1).sum(1)
    first = starts[owner]
    places = torch.stack([first, rank.to(torch.int32)], dim=1).contiguous()
    overlaps = torch.zeros((len(boxes), 2), dtype=torch.int32, device=logits.device)
    kept = torch.zeros(len(boxes), dtype=torch.int8, device=logits.device)
    blocks = triton.cdiv(16 * rows * columns, 1024)
    for r in range(alike):
        arguments = (masks, windows, scales, places, overlaps, kept, r, 4 * rows, 4 * columns)
        _count_overlaps[len(boxes), blocks](*arguments, 1024, SIDE, enable_fp_fusion=False)
        area, taken = overlaps[:, 0], overlaps[:, 1]
        kept = ((area > 0) & (taken.double() / area.clamp(min=1) <= overlap)).to(torch.int8)
    alive = torch.zeros(images, dtype=torch.int8, device=logits.device).index_add(0, owner, kept)
    lone = (torch.arange(len(boxes), device=logits.device) == first) & (alive[owner] == 0)  # quirks Q5, Q6
    shown = torch.where(lone, 1, 2 * kept).to(torch.int8)
    segments = torch.empty((images, 4 * rows, 4 * columns), dtype=torch.uint8, device=logits.device)
    semantic = torch.empty_like(segments)
    grid = (triton.cdiv(4 * columns, 64), triton.cdiv(4 * rows, 8), images)
    shape = (kinds, stuff, rows, columns)
    _decide[grid](
        logits, masks, windows, scales, shown, starts, segments, semantic, *shape, 8, 64, SIDE, enable_fp_fusion=False
    )
    order = torch.argsort(2 * owner + (shown == 0), stable=True) - first
    return segments, semantic, order

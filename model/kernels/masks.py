"""Masks of things on a GPU: where they lie, and which ones better masks of their class cover (quirk Q10)."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE = 28  # rows and columns of a mask
PIXELS, BLOCKS = 1024, 32  # pixels that a program takes at once; programs for each candidate
LANES = 32  # candidates that a program looks at at once


class Masks(NamedTuple):
    """The candidates of a batch, each image's by descending score.

    Attributes:
        logits: (n, 28, 28) float32.
        windows: (n, 8) int32: top row, left column, rows and columns of the mask, end row and end column of the
            semantic plane, class, rank among the image's candidates of that class (quirk Q8).
        scales: (n, 2) float32: rows and columns of the mask's logits in a pixel.
        firsts: (n,) int32, the first candidate of each one's image.
    """

    logits: Tensor
    windows: Tensor
    scales: Tensor
    firsts: Tensor


@triton.jit
def _half_to_even(x):  # type: ignore[no-untyped-def]
    """A number that is at least 0, rounded as torch rounds."""
    near = tl.floor(x + 0.5).to(tl.int32)
    return tl.where((near.to(tl.float32) - x == 0.5) & (near % 2 == 1), near - 1, near)


@triton.jit
def _place(  # type: ignore[no-untyped-def]
    boxes,  # (n, 4) float32
    classes,  # (n,) int64
    firsts,
    windows,
    scales,
    LANES: tl.constexpr,
    SIDE: tl.constexpr,
):
    """One candidate."""
    i = tl.program_id(0)
    left, top = tl.load(boxes + 4 * i).to(tl.int32), tl.load(boxes + 4 * i + 1).to(tl.int32)  # truncated
    right, bottom = tl.load(boxes + 4 * i + 2), tl.load(boxes + 4 * i + 3)
    columns, rows = tl.maximum(right.to(tl.int32) - left + 1, 1), tl.maximum(bottom.to(tl.int32) - top + 1, 1)
    kind = tl.load(classes + i).to(tl.int32)
    rank = 0
    for start in range(tl.load(firsts + i), i, LANES):
        other = start + tl.arange(0, LANES)
        rank += tl.sum((tl.load(classes + other, mask=other < i, other=-1) == kind).to(tl.int32), 0)
    row = windows + 8 * i
    tl.store(row, top)
    tl.store(row + 1, left)
    tl.store(row + 2, rows)
    tl.store(row + 3, columns)
    tl.store(row + 4, _half_to_even(bottom) + 1)
    tl.store(row + 5, _half_to_even(right) + 1)
    tl.store(row + 6, kind)
    tl.store(row + 7, rank)
    tl.store(scales + 2 * i, tl.div_rn(SIDE * 1.0, rows.to(tl.float32)))
    tl.store(scales + 2 * i + 1, tl.div_rn(SIDE * 1.0, columns.to(tl.float32)))


def place(boxes: Tensor, logits: Tensor, classes: Tensor, firsts: Tensor) -> Masks:
    """The masks of boxes (n, 4), logits (n, 28, 28) and classes (n,), 0 for the placeholder; (n,) int32 as above."""
    count = len(boxes)
    windows = torch.empty((count, 8), dtype=torch.int32, device=boxes.device)
    scales = torch.empty((count, 2), dtype=torch.float32, device=boxes.device)
    _place[(count,)](boxes.contiguous(), classes.contiguous(), firsts, windows, scales, LANES, SIDE, num_warps=1)
    return Masks(logits.contiguous(), windows, scales, firsts)


@triton.jit
def bilinear(plane, v, u, rows, columns, inside):  # type: ignore[no-untyped-def]
    """A (rows, columns) plane at fractional rows v and columns u, at least 0; its last row and column continue."""
    top, left = tl.minimum(v.to(tl.int32), rows - 1), tl.minimum(u.to(tl.int32), columns - 1)
    bottom, right = tl.minimum(top + 1, rows - 1), tl.minimum(left + 1, columns - 1)
    dy, dx = v - top.to(tl.float32), u - left.to(tl.float32)
    a = tl.load(plane + top * columns + left, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(plane + top * columns + right, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(plane + bottom * columns + left, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(plane + bottom * columns + right, mask=inside, other=0.0).to(tl.float32)
    return (1 - dy) * ((1 - dx) * a + dx * b) + dy * ((1 - dx) * c + dx * d)


@triton.jit
def mask_logit(masks, i, y, x, scale_y, scale_x, inside, SIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mask i enlarged to its window, at rows y and columns x of the window (bilinear, half-pixel centres)."""
    v = tl.maximum(scale_y * (y.to(tl.float32) + 0.5) - 0.5, 0.0)
    u = tl.maximum(scale_x * (x.to(tl.float32) + 0.5) - 0.5, 0.0)
    return bilinear(masks + i * SIDE * SIDE, v, u, SIDE, SIDE, inside)


@triton.jit
def set_bits(chosen, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which of LANES, at most 32, are chosen, as the bits of a number."""
    return tl.sum(tl.where(chosen, (tl.full((LANES,), 1, tl.int64) << tl.arange(0, LANES).to(tl.int64)), 0), 0)


@triton.jit
def lowest_bit(bits):  # type: ignore[no-untyped-def]
    """The place of the lowest bit that is set: the exponent of that bit as a float."""
    return ((bits & -bits).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _extent(windows, i, height, width):  # type: ignore[no-untyped-def]
    """Rows and columns of a candidate's mask on the canvas; no rows for the placeholder."""
    row = windows + 8 * i
    rows = tl.minimum(tl.load(row + 2), height - tl.load(row))
    columns = tl.minimum(tl.load(row + 3), width - tl.load(row + 1))
    return tl.where(tl.load(row + 6) > 0, tl.maximum(rows, 0), 0), tl.maximum(columns, 0)


@triton.jit
def stays(areas, taken, i, mask, overlap_bits):  # type: ignore[no-untyped-def]
    """Whether candidates keep their masks: not empty, and not more than the share of it is taken."""
    area = tl.load(areas + i, mask=mask, other=0)
    overlap = overlap_bits.to(tl.float64, bitcast=True)  # Triton takes a number of Python for a float32
    allowed = tl.floor(overlap * area.to(tl.float64)).to(tl.int32)
    return (area > 0) & (tl.load(taken + i, mask=mask, other=0) <= allowed)


@triton.jit(do_not_specialize=["height", "width"])  # sizes of 1, or divisible by 16, would compile anew
def _count_own(  # type: ignore[no-untyped-def]
    masks, windows, scales, areas, height, width, PIXELS: tl.constexpr, BLOCKS: tl.constexpr, SIDE: tl.constexpr
):
    """Pixels of each mask, (n,) int32. A program takes every BLOCKS-th block of one candidate's window."""
    i = tl.program_id(0)
    rows, columns = _extent(windows, i, height, width)
    scale_y, scale_x = tl.load(scales + 2 * i), tl.load(scales + 2 * i + 1)
    total = tl.zeros((PIXELS,), dtype=tl.int32)
    for first in range(tl.program_id(1) * PIXELS, rows * columns, BLOCKS * PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        inside = pixel < rows * columns
        logit = mask_logit(masks, i, pixel // columns, pixel % columns, scale_y, scale_x, inside, SIDE)
        total += (inside & (logit > 0)).to(tl.int32)
    tl.atomic_add(areas + i, tl.sum(total, 0))


@triton.jit(do_not_specialize=["rank", "height", "width", "overlap_bits"])
def _count_taken(  # type: ignore[no-untyped-def]
    masks,
    windows,
    scales,
    firsts,
    areas,  # (n,) int32: pixels of each mask
    taken,  # (n,) int32: pixels that better masks of its class have; known for lower ranks
    rank,
    height,
    width,
    overlap_bits,
    PIXELS: tl.constexpr,
    BLOCKS: tl.constexpr,
    LANES: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Fills `taken` for the candidates of one rank, once lower ranks are decided. Programs as in `_count_own`."""
    i = tl.program_id(0)
    if tl.load(windows + 8 * i + 7) == rank:
        rows, columns = _extent(windows, i, height, width)
        top, left, kind = tl.load(windows + 8 * i), tl.load(windows + 8 * i + 1), tl.load(windows + 8 * i + 6)
        scale_y, scale_x = tl.load(scales + 2 * i), tl.load(scales + 2 * i + 1)
        total = tl.zeros((PIXELS,), dtype=tl.int32)
        for first in range(tl.program_id(1) * PIXELS, rows * columns, BLOCKS * PIXELS):
            pixel = first + tl.arange(0, PIXELS)
            inside = pixel < rows * columns
            y, x = pixel // columns, pixel % columns
            mine = inside & (mask_logit(masks, i, y, x, scale_y, scale_x, inside, SIDE) > 0)
            lost = tl.zeros((PIXELS,), dtype=tl.int1)
            for start in range(tl.load(firsts + i), i, LANES):
                some = start + tl.arange(0, LANES)
                better = some < i
                alike = better & (tl.load(windows + 8 * some + 6, mask=better, other=-1) == kind)
                bits = set_bits(alike & stays(areas, taken, some, better, overlap_bits), LANES)
                while bits != 0:
                    j = start + lowest_bit(bits)
                    bits = bits & (bits - 1)
                    row = windows + 8 * j
                    v, u = y + top - tl.load(row), x + left - tl.load(row + 1)
                    shared = mine & (v >= 0) & (v < tl.load(row + 2)) & (u >= 0) & (u < tl.load(row + 3))
                    down, across = tl.load(scales + 2 * j), tl.load(scales + 2 * j + 1)
                    lost = lost | (shared & (mask_logit(masks, j, v, u, down, across, shared, SIDE) > 0))
            total += lost.to(tl.int32)
        tl.atomic_add(taken + i, tl.sum(total, 0))


def count(masks: Masks, max_per_class: int, overlap_bits: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pixels of each mask, and how many of them better masks of its class have that stay: (n,) int32 each.

    One launch counts the areas of all masks. Then candidates are decided in the order of their rank within the class:
    one launch for each rank after the first, and at least one.

    Args:
        masks: the candidates of the batch.
        max_per_class: most candidates of one class in an image.
        overlap_bits: share of its mask that a candidate may lose, the bits of a float64.
        size: height and width of the canvas.
    """
    candidates = len(masks.logits)
    areas, taken = torch.zeros((2, candidates), dtype=torch.int32, device=masks.logits.device)
    own = (masks.logits, masks.windows, masks.scales, areas)
    _count_own[candidates, BLOCKS](*own, *size, PIXELS, BLOCKS, SIDE, enable_fp_fusion=False)
    for r in range(1, max(max_per_class, 2)):  # a picture without things, as warm-up shows, compiles this kernel too
        arguments = (*masks, areas, taken, r, *size, overlap_bits)
        _count_taken[candidates, BLOCKS](*arguments, PIXELS, BLOCKS, LANES, SIDE, enable_fp_fusion=False)
    return areas, taken

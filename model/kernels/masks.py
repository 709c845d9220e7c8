"""Masks of things on a GPU: where they lie, and which ones better masks of their class cover (quirk Q10)."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE = 28  # rows and columns of a mask
PIXELS, BLOCKS = 1024, 32  # pixels that a program takes at once; programs for each candidate


class Masks(NamedTuple):
    """The candidates of a batch, each image's by descending score.

    Attributes:
        logits: (n, 28, 28) float32.
        windows: (n, 8) int32: top row, left column, rows and columns of the mask, end row and end column of the
            semantic plane, class, 0 (quirk Q8).
        scales: (n, 2) float32: rows and columns of the mask's logits in a pixel.
    """

    logits: Tensor
    windows: Tensor
    scales: Tensor


def place(boxes: Tensor, logits: Tensor, classes: Tensor) -> Masks:
    """The masks of boxes (n, 4), logits (n, 28, 28) and classes (n,), 0 for the placeholder."""
    corner = boxes.to(torch.int32)  # truncated
    far = boxes[:, 2:].round().to(torch.int32) + 1
    sides = (corner[:, 2:] - corner[:, :2] + 1).clamp(min=1)
    kind = classes.to(torch.int32)
    columns = [corner[:, 1], corner[:, 0], sides[:, 1], sides[:, 0], far[:, 1], far[:, 0], kind, torch.zeros_like(kind)]
    scales = (float(SIDE) / sides.flip(1).float()).contiguous()
    return Masks(logits.contiguous(), torch.stack(columns, dim=1), scales)


@triton.jit
def bilinear(plane, v, u, rows, columns, inside):  # type: ignore[no-untyped-def]
    """A (rows, columns) plane at fractional rows v and columns u, at least 0; its last row and column continue."""
    top, left = tl.minimum(v.to(tl.int32), rows - 1), tl.minimum(u.to(tl.int32), columns - 1)
    bottom, right = tl.minimum(top + 1, rows - 1), tl.minimum(left + 1, columns - 1)
    dy, dx = v - top.to(tl.float32), u - left.to(tl.float32)
    a = tl.load(plane + top * columns + left, mask=inside, other=0.0)
    b = tl.load(plane + top * columns + right, mask=inside, other=0.0)
    c = tl.load(plane + bottom * columns + left, mask=inside, other=0.0)
    d = tl.load(plane + bottom * columns + right, mask=inside, other=0.0)
    return (1 - dy) * ((1 - dx) * a + dx * b) + dy * ((1 - dx) * c + dx * d)


@triton.jit
def mask_logit(masks, i, y, x, scale_y, scale_x, inside, SIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mask i enlarged to its window, at rows y and columns x of the window (bilinear, half-pixel centres)."""
    v = tl.maximum(scale_y * (y.to(tl.float32) + 0.5) - 0.5, 0.0)
    u = tl.maximum(scale_x * (x.to(tl.float32) + 0.5) - 0.5, 0.0)
    return bilinear(masks + i * SIDE * SIDE, v, u, SIDE, SIDE, inside)


@triton.jit
def _extent(windows, i, height, width):  # type: ignore[no-untyped-def]
    """Rows and columns of a candidate's mask on the canvas; no rows for the placeholder."""
    row = windows + 8 * i
    rows = tl.minimum(tl.load(row + 2), height - tl.load(row))
    columns = tl.minimum(tl.load(row + 3), width - tl.load(row + 1))
    return tl.where(tl.load(row + 6) > 0, tl.maximum(rows, 0), 0), tl.maximum(columns, 0)


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


@triton.jit(do_not_specialize=["rank", "height", "width"])
def _count_taken(  # type: ignore[no-untyped-def]
    masks,
    windows,
    scales,
    places,  # (n, 2) int32: first candidate of the image, rank within image and class
    allowed,  # (n,) int32: pixels that a candidate may lose
    taken,  # (n,) int32: pixels that better masks of its class have; known for lower ranks
    rank,
    height,
    width,
    PIXELS: tl.constexpr,
    BLOCKS: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Fills `taken` for the candidates of one rank, once lower ranks are decided. Programs as in `_count_own`."""
    i = tl.program_id(0)
    if tl.load(places + 2 * i + 1) == rank:
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
            for j in range(tl.load(places + 2 * i), i):
                row = windows + 8 * j
                if (tl.load(row + 6) == kind) & (tl.load(taken + j) <= tl.load(allowed + j)):
                    v, u = y + top - tl.load(row), x + left - tl.load(row + 1)
                    shared = mine & (v >= 0) & (v < tl.load(row + 2)) & (u >= 0) & (u < tl.load(row + 3))
                    down, across = tl.load(scales + 2 * j), tl.load(scales + 2 * j + 1)
                    lost = lost | (shared & (mask_logit(masks, j, v, u, down, across, shared, SIDE) > 0))
            total += lost.to(tl.int32)
        tl.atomic_add(taken + i, tl.sum(total, 0))


def prune(
    masks: Masks, owner: Tensor, starts: Tensor, max_per_class: int, overlap: float, size: tuple[int, int]
) -> Tensor:
    """Which candidates stay, (n,) bool: their mask is not empty, and loses at most `overlap` of it to better ones.

    One launch counts the areas of all masks. Then candidates are decided in the order of their rank within the class:
    one launch for each rank after the first, and at least one.

    Args:
        masks: the candidates of the batch.
        owner: (n,) int64, the image of each candidate.
        starts: (N + 1,) int32, where each image's candidates start.
        max_per_class: most candidates of one class in an image.
        overlap: share of its mask that a candidate may lose.
        size: height and width of the canvas.
    """
    kind, count = masks.windows[:, 6], len(masks.logits)
    rank = ((owner[:, None] == owner) & (kind[:, None] == kind)).tril(-1).sum(1)
    places = torch.stack([starts[owner], rank.to(torch.int32)], dim=1)
    areas = torch.zeros(count, dtype=torch.int32, device=kind.device)
    taken = torch.zeros_like(areas)
    _count_own[count, BLOCKS](*masks, areas, *size, PIXELS, BLOCKS, SIDE, enable_fp_fusion=False)
    allowed = torch.where(areas > 0, (overlap * areas.double()).floor(), -1.0).to(torch.int32)
    for r in range(1, max(max_per_class, 2)):  # a picture without things, as warm-up shows, compiles this kernel too
        arguments = (*masks, places, allowed, taken, r, *size)
        _count_taken[count, BLOCKS](*arguments, PIXELS, BLOCKS, SIDE, enable_fp_fusion=False)
    return taken <= allowed

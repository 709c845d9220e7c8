"""Sums over levels of the pyramid on a GPU, in one pass each."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.masks import bilinear

ROWS, COLUMNS = 8, 64  # of a tile
PIXELS = 16  # of a block


@triton.jit
def enlarged(plane, y, x, rows, columns, inside, scale):  # type: ignore[no-untyped-def]
    """A (rows, columns) plane, `1 / scale` times as large, at rows y and columns x of the enlargement (bilinear)."""
    v = tl.maximum(scale * (y.to(tl.float32) + 0.5) - 0.5, 0.0)
    u = tl.maximum(scale * (x.to(tl.float32) + 0.5) - 0.5, 0.0)
    return bilinear(plane, v, u, rows, columns, inside)


@triton.jit(do_not_specialize=["kinds", "rows", "columns"])  # one compilation for all sizes of pictures
def _sum_levels(  # type: ignore[no-untyped-def]
    p2,  # (N S, h, w) any floating type
    p3,  # (N S, h / 2, w / 2) and so on
    p4,
    p5,
    bias,  # (S,)
    out,  # (N S, h, w) float32
    kinds,
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of one plane."""
    plane, pixel = tl.program_id(0).to(tl.int64), tl.arange(0, ROWS * COLUMNS)
    y = tl.program_id(2) * ROWS + pixel // COLUMNS
    x = tl.program_id(1) * COLUMNS + pixel % COLUMNS
    inside = (y < rows) & (x < columns)
    place = plane * rows * columns + y * columns + x
    total = tl.load(p2 + place, mask=inside, other=0.0).to(tl.float32)
    total += enlarged(p3 + plane * (rows // 2) * (columns // 2), y, x, rows // 2, columns // 2, inside, 0.5)
    total += enlarged(p4 + plane * (rows // 4) * (columns // 4), y, x, rows // 4, columns // 4, inside, 0.25)
    total += enlarged(p5 + plane * (rows // 8) * (columns // 8), y, x, rows // 8, columns // 8, inside, 0.125)
    total += tl.load(bias + tl.program_id(0) % kinds).to(tl.float32)
    tl.store(out + place, total, mask=inside)


def sum_levels(levels: list[Tensor], bias: Tensor) -> Tensor:
    """As `model.ops.sum_levels`."""
    images, kinds, rows, columns = levels[0].shape
    out = torch.empty((images, kinds, rows, columns), dtype=torch.float32, device=bias.device)
    if out.numel() > 0:
        grid = (images * kinds, triton.cdiv(columns, COLUMNS), triton.cdiv(rows, ROWS))
        given = [level.contiguous() for level in levels]
        _sum_levels[grid](*given, bias, out, kinds, rows, columns, ROWS, COLUMNS, enable_fp_fusion=False)
    return out


@triton.jit(do_not_specialize=["pixels", "rows", "columns"])
def _add_enlarged(  # type: ignore[no-untyped-def]
    fine, coarse, out, pixels, rows, columns, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Some pixels and channels of (N, h, w, C): fine plus the pixel of the coarse map (N, h / 2, w / 2, C) there."""
    pixel = (tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    column, row = pixel % columns // 2, pixel // columns % rows // 2
    above = (pixel // (columns * rows) * (rows // 2) + row) * (columns // 2) + column
    place = pixel[:, None] * channels + channel[None, :]
    found = tl.load(fine + place, mask=inside, other=0.0)
    found += tl.load(coarse + above[:, None] * channels + channel[None, :], mask=inside, other=0.0)
    tl.store(out + place, found, mask=inside)


def add_enlarged(fine: Tensor, coarse: Tensor) -> Tensor:
    """As `model.ops.add_enlarged`; the result is channels-last."""
    given = fine.permute(0, 2, 3, 1).contiguous(), coarse.permute(0, 2, 3, 1).contiguous()
    out = torch.empty_like(given[0])
    images, rows, columns, channels = out.shape
    if out.numel() > 0:
        depth = min(triton.next_power_of_2(channels), 256)
        grid = (triton.cdiv(images * rows * columns, PIXELS), triton.cdiv(channels, depth))
        _add_enlarged[grid](*given, out, images * rows * columns, rows, columns, channels, PIXELS, depth)
    return out.permute(0, 3, 1, 2)

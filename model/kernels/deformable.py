"""The deformable convolution on a GPU, forward only: it multiplies samples without writing them to memory."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


class Tile(NamedTuple):
    """What a block takes: no register spills, see the tests.

    Attributes:
        pixels: pixels of a block.
        bytes: bytes of channels that it takes at once.
        outputs: output channels of a block.
        warps: warps that share it.
        stages: depth of its pipeline.
    """

    pixels: int
    bytes: int
    outputs: int
    warps: int
    stages: int


@triton.jit
def _corner(table, y, x, image, channel, inside, height, width, channels):  # type: ignore[no-untyped-def]
    """Rows of channels at integer positions; 0 outside the image."""
    valid = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    start = ((image * height + y) * width + x).to(tl.int64) * channels
    mask = valid[:, None] & (channel < channels)[None, :]
    return tl.load(table + start[:, None] + channel[None, :], mask=mask, other=0.0)


@triton.jit
def _position(moves, pixel, tap, row, column, inside, height, width):  # type: ignore[no-untyped-def]
    """Where a tap samples, in float32; at -1, where every neighbour is outside, if the offset is no number."""
    move = moves + pixel.to(tl.int64) * 18 + 2 * tap
    y = row + (tap // 3 - 1) + tl.load(move, mask=inside, other=0.0).to(tl.float32)
    x = column + (tap % 3 - 1) + tl.load(move + 1, mask=inside, other=0.0).to(tl.float32)
    y = tl.minimum(tl.maximum(tl.where(y == y, y, -1.0), -1.0), height.to(tl.float32))
    x = tl.minimum(tl.maximum(tl.where(x == x, x, -1.0), -1.0), width.to(tl.float32))
    return y, x


@triton.jit(do_not_specialize=["pixels", "height", "width"])  # one compilation for all sizes of pictures
def _forward(  # type: ignore[no-untyped-def]
    table,  # (N H W, C) any floating type
    moves,  # (N H W, 18) any floating type
    weight,  # (O, 9, C), type of the table
    bias,  # (O,)
    out,  # (N H W, O), type of the table
    pixels,
    height,
    width,
    channels,
    outputs,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    HALF: tl.constexpr,
):
    """One block of pixels and output channels. One flat loop over taps and channels, so that its pipeline never drains."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    inside = pixel < pixels
    column = pixel % width
    row = (pixel // width) % height
    image = pixel // (width * height)
    total = tl.zeros((PIXELS, OUTPUTS), dtype=tl.float32)
    for step in range(9 * tl.cdiv(channels, CHANNELS)):
        tap = step % 9
        channel = step // 9 * CHANNELS + tl.arange(0, CHANNELS)
        y, x = _position(moves, pixel, tap, row, column, inside, height, width)
        top, left = tl.floor(y), tl.floor(x)
        dy, dx = (y - top)[:, None], (x - left)[:, None]
        y0, x0 = top.to(tl.int32), left.to(tl.int32)
        a = _corner(table, y0, x0, image, channel, inside, height, width, channels)
        b = _corner(table, y0, x0 + 1, image, channel, inside, height, width, channels)
        c = _corner(table, y0 + 1, x0, image, channel, inside, height, width, channels)
        d = _corner(table, y0 + 1, x0 + 1, image, channel, inside, height, width, channels)
        if HALF:
            kind = table.dtype.element_ty
            sample = a * ((1 - dy) * (1 - dx)).to(kind) + b * ((1 - dy) * dx).to(kind)
            sample += c * (dy * (1 - dx)).to(kind) + d * (dy * dx).to(kind)
        else:
            above = (1 - dx) * a.to(tl.float32) + dx * b.to(tl.float32)
            below = (1 - dx) * c.to(tl.float32) + dx * d.to(tl.float32)
            sample = ((1 - dy) * above + dy * below).to(table.dtype.element_ty)
        place = weight + (output[None, :] * 9 + tap) * channels + channel[:, None]
        known = (channel < channels)[:, None] & (output < outputs)[None, :]
        total = tl.dot(sample, tl.load(place, mask=known, other=0.0), total, input_precision=PRECISION)
    total += tl.load(bias + output, mask=output < outputs, other=0.0)[None, :].to(tl.float32)
    if RELU:
        total = tl.maximum(total, 0.0)
    place = pixel.to(tl.int64)[:, None] * outputs + output[None, :]
    written = inside[:, None] & (output < outputs)[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=written)


def tile(outputs: int) -> Tile:
    """The tile for a number of output channels: all of them if possible, so that each sample is gathered once."""
    columns = min(max(triton.next_power_of_2(outputs), 16), 256)
    return Tile(64, 64, columns, 8 if columns == 256 else 4, 3)


def deform_conv2d(
    features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False
) -> Tensor:
    """As `model.ops.deform_conv2d`, forward only; float16, bfloat16 or float32; the result is channels-last.

    Float32 data is multiplied in full precision, not in TF32.
    """
    count, channels, height, width = features.shape
    outputs = weight.size(0)
    table = features.permute(0, 2, 3, 1).contiguous()  # as it lies, where features, offsets, weight are channels-last
    moves = offsets.permute(0, 2, 3, 1).contiguous()
    matrix = weight.to(features.dtype).permute(0, 2, 3, 1).contiguous()  # (O, C, 3, 3) -> (O, 3, 3, C)
    shift = weight.new_zeros(outputs) if bias is None else bias
    out = features.new_empty((count, height, width, outputs))
    run(table, moves, matrix, shift, out, relu, tile(outputs))
    return out.permute(0, 3, 1, 2)


def run(
    table: Tensor, moves: Tensor, matrix: Tensor, shift: Tensor, out: Tensor, relu: bool, tile: Tile, half: bool = False
) -> None:
    """Fill `out` (N, H, W, O); arguments as of the kernel."""
    count, height, width, channels = table.shape
    pixels, outputs = count * height * width, out.size(3)
    if pixels > 0:
        grid = (triton.cdiv(pixels, tile.pixels), triton.cdiv(outputs, tile.outputs))
        arguments = (table, moves, matrix, shift, out, pixels, height, width, channels, outputs)
        constants = (tile.pixels, tile.bytes // table.element_size(), tile.outputs, relu, "ieee", half)
        _forward[grid](
            *arguments, *constants, num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True
        )

"""The deformable convolution on a GPU, forward only: it multiplies samples without writing them to memory."""

import functools
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
def _axis(at, length):  # type: ignore[no-untyped-def]
    """The two neighbours of positions along an axis, moved inside, and their weights; 0 for one that was outside.

    A position that is no number samples 0, as one at -1 does.
    """
    at = tl.where(at > -1.0, tl.minimum(at, length.to(tl.float32)), -1.0)
    low = tl.floor(at)
    after = at - low
    first = low.to(tl.int32)
    before = tl.where((first >= 0) & (first < length), 1.0 - after, 0.0)
    after = tl.where(first < length - 1, after, 0.0)
    return tl.minimum(tl.maximum(first, 0), length - 1), tl.minimum(first + 1, length - 1), before, after


@triton.jit
def _corner(table, pixel, channel, channels, EVEN: tl.constexpr, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of channels of pixels."""
    if WIDE:
        pixel = pixel.to(tl.int64)
    place = table + pixel[:, None] * channels + channel[None, :]
    if EVEN:
        return tl.load(place)
    else:
        return tl.load(place, mask=(channel < channels)[None, :], other=0.0)


@triton.jit
def _mix(a, b, c, d, above, below, left, right, HALF: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bilinear mean of four corners, in the type that they have if HALF, else in float32."""
    kind = a.dtype if HALF else tl.float32
    upper = a.to(kind) * (above * left).to(kind)[:, None] + b.to(kind) * (above * right).to(kind)[:, None]
    lower = c.to(kind) * (below * left).to(kind)[:, None] + d.to(kind) * (below * right).to(kind)[:, None]
    return (upper + lower).to(a.dtype)


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
    CHUNKS: tl.constexpr,  # of channels
    EVEN: tl.constexpr,  # whether the last chunk is full
    WIDE: tl.constexpr,  # whether the table has so many numbers that 32 bits do not count them
    RELU: tl.constexpr,
    HALF: tl.constexpr,
):
    """A block of pixels and output channels; taps and channels in one loop, so that its pipeline never drains."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    inside = pixel < pixels
    column, row = pixel % width, pixel // width % height
    image = tl.minimum(pixel, pixels - 1) // (width * height) * height  # loads have no masks
    total = tl.zeros((PIXELS, OUTPUTS), dtype=tl.float32)
    for step in range(9 * CHUNKS):
        tap = step % 9
        channel = step // 9 * CHANNELS + tl.arange(0, CHANNELS)
        move = moves + pixel.to(tl.int64) * 18 + 2 * tap
        y = row + (tap // 3 - 1) + tl.load(move, mask=inside, other=0.0).to(tl.float32)
        x = column + (tap % 3 - 1) + tl.load(move + 1, mask=inside, other=0.0).to(tl.float32)
        y0, y1, above, below = _axis(y, height)
        x0, x1, left, right = _axis(x, width)
        upper, lower = (image + y0) * width, (image + y1) * width
        a = _corner(table, upper + x0, channel, channels, EVEN, WIDE)
        b = _corner(table, upper + x1, channel, channels, EVEN, WIDE)
        c = _corner(table, lower + x0, channel, channels, EVEN, WIDE)
        d = _corner(table, lower + x1, channel, channels, EVEN, WIDE)
        place = weight + (output[None, :] * 9 + tap) * channels + channel[:, None]
        known = (channel < channels)[:, None] & (output < outputs)[None, :]
        sample = _mix(a, b, c, d, above, below, left, right, HALF)
        total = tl.dot(sample, tl.load(place, mask=known, other=0.0), total, input_precision="ieee")
    total += tl.load(bias + output, mask=output < outputs, other=0.0)[None, :].to(tl.float32)
    if RELU:
        total = tl.maximum(total, 0.0)
    place = pixel.to(tl.int64)[:, None] * outputs + output[None, :]
    written = inside[:, None] & (output < outputs)[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=written)


def tile(outputs: int, shared: int) -> Tile:
    """The tile for a number of output channels, and so many bytes of shared memory in a multiprocessor.

    All channels if possible, so that each sample is gathered once; two blocks beside each other if possible.
    """
    columns = min(max(triton.next_power_of_2(outputs), 16), 256)
    return Tile(64, 64, columns, 8 if columns == 256 else 4, 3 if shared >= 160 * 1024 else 2)


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """As `model.ops.deform_conv2d`, forward only; float16, bfloat16 or float32; the result is channels-last.

    Float32 data is multiplied in full precision, not in TF32.
    """
    count, _, height, width = features.shape
    outputs = weight.size(0)
    table = features.permute(0, 2, 3, 1).contiguous()  # as it lies, where features, offsets, weight are channels-last
    moves = offsets.permute(0, 2, 3, 1).contiguous()
    matrix = weight.to(features.dtype).permute(0, 2, 3, 1).contiguous()  # (O, C, 3, 3) -> (O, 3, 3, C)
    shift = weight.new_zeros(outputs) if bias is None else bias
    out = features.new_empty((count, height, width, outputs))
    pixels = count * height * width
    if pixels > 0:
        chosen, channels = tile(outputs, _shared_memory(table.device)), table.size(3)
        chunk = chosen.bytes // table.element_size()
        grid = (triton.cdiv(pixels, chosen.pixels), triton.cdiv(outputs, chosen.outputs))
        half = features.dtype == torch.float16  # bfloat16 has too few digits for means
        _forward[grid](
            *(table, moves, matrix, shift, out, pixels, height, width, channels, outputs),
            *(chosen.pixels, chunk, chosen.outputs, triton.cdiv(channels, chunk), channels % chunk == 0),
            *(table.numel() >= 2**31, relu, half),
            num_warps=chosen.warps,
            num_stages=chosen.stages,
            enable_fp_fusion=True,
        )
    return out.permute(0, 3, 1, 2)


@functools.cache
def _shared_memory(device: torch.device) -> int:
    """Bytes of shared memory in a multiprocessor; on a CPU, where the interpreter runs, there is enough."""
    if device.type != "cuda":
        return 2**20
    return int(torch.cuda.get_device_properties(device).shared_memory_per_multiprocessor)

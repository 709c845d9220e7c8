"""The deformable convolution on a GPU, forward only: it multiplies samples without writing them to memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS, BYTES = 64, 64  # pixels of a block, bytes of channels it takes at once: no register spills, see the tests


@triton.jit
def _corner(table, y, x, image, channel, inside, height, width, channels):  # type: ignore[no-untyped-def]
    """Rows of channels at integer positions; 0 outside the image."""
    valid = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    start = ((image * height + y) * width + x).to(tl.int64) * channels
    mask = valid[:, None] & (channel < channels)[None, :]
    return tl.load(table + start[:, None] + channel[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["pixels", "height", "width"])  # one compilation for all sizes of pictures
def _forward(  # type: ignore[no-untyped-def]
    table,  # (N H W, C) any floating type
    moves,  # (N H W, 18) float32
    matrix,  # (9, C, O), type of the table
    bias,  # (O,) float32
    out,  # (N H W, O), type of the table
    pixels,
    height,
    width,
    channels,
    outputs,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One block of pixels and output channels; positions in float32 whatever the data's type."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    inside = pixel < pixels
    column = pixel % width
    row = (pixel // width) % height
    image = pixel // (width * height)
    total = tl.zeros((PIXELS, OUTPUTS), dtype=tl.float32)
    for tap in range(9):
        move = moves + pixel.to(tl.int64) * 18 + 2 * tap
        y = row + (tap // 3 - 1) + tl.load(move, mask=inside, other=0.0)
        x = column + (tap % 3 - 1) + tl.load(move + 1, mask=inside, other=0.0)
        y = tl.minimum(tl.maximum(y, -1.0), height.to(tl.float32))  # beyond this every neighbour is outside
        x = tl.minimum(tl.maximum(x, -1.0), width.to(tl.float32))
        top, left = tl.floor(y), tl.floor(x)
        dy, dx = (y - top)[:, None], (x - left)[:, None]
        y0, x0 = top.to(tl.int32), left.to(tl.int32)
        for start in range(0, channels, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            above = (1 - dx) * _corner(table, y0, x0, image, channel, inside, height, width, channels)
            above += dx * _corner(table, y0, x0 + 1, image, channel, inside, height, width, channels)
            below = (1 - dx) * _corner(table, y0 + 1, x0, image, channel, inside, height, width, channels)
            below += dx * _corner(table, y0 + 1, x0 + 1, image, channel, inside, height, width, channels)
            sample = ((1 - dy) * above + dy * below).to(table.dtype.element_ty)
            place = (tap * channels + channel)[:, None] * outputs + output[None, :]
            known = (channel < channels)[:, None] & (output < outputs)[None, :]
            weights = tl.load(matrix + place, mask=known, other=0.0)
            total = tl.dot(sample, weights, total, input_precision=PRECISION)
    total += tl.load(bias + output, mask=output < outputs, other=0.0)[None, :]
    place = pixel.to(tl.int64)[:, None] * outputs + output[None, :]
    written = inside[:, None] & (output < outputs)[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=written)


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `model.ops.deform_conv2d`, forward only; float16, bfloat16 or float32; the result is channels-last.

    Float32 data is multiplied in full precision, not in TF32.
    """
    count, channels, height, width = features.shape
    outputs = weight.size(0)
    table = features.permute(0, 2, 3, 1).contiguous()  # free where the features are channels-last
    moves = offsets.float().permute(0, 2, 3, 1).contiguous()
    matrix = weight.to(features.dtype).permute(2, 3, 1, 0).contiguous()  # (O, C, 3, 3) -> (3, 3, C, O)
    shift = weight.new_zeros(outputs, dtype=torch.float32) if bias is None else bias.float()
    out = features.new_empty((count, height, width, outputs))
    pixels = count * height * width
    if pixels > 0:
        columns = min(max(triton.next_power_of_2(outputs), 16), 256)  # all if possible: each sample is gathered once
        grid = (triton.cdiv(pixels, PIXELS), triton.cdiv(outputs, columns))
        arguments = (table, moves, matrix, shift, out, pixels, height, width, channels, outputs)
        options = {"num_warps": 8 if columns == 256 else 4, "num_stages": 2, "enable_fp_fusion": True}
        _forward[grid](*arguments, PIXELS, BYTES // table.element_size(), columns, "ieee", **options)
    return out.permute(0, 3, 1, 2)

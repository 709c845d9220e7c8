"""Pixels of a batch on a GPU: a launch for each image reads it as it lies and writes what the backbone takes."""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, NUMBERS = 8, 512  # of the result that a program writes: rows, and numbers of each, three a pixel


@triton.jit
def _neighbours(place, inverse, length):  # type: ignore[no-untyped-def]
    """Pixels before and after a place along an axis of this length, and the weight of the latter."""
    position = (place.to(tl.float64) + 0.5) * inverse - 0.5
    position = tl.minimum(tl.maximum(position, 0.0), (length - 1).to(tl.float64))
    before = position.to(tl.int32)
    return before, tl.minimum(before + 1, length - 1), (position - before.to(tl.float64)).to(tl.float32)


@triton.jit(
    do_not_specialize=[
        "image",
        "index",
        "source_height",
        "source_width",
        "stride_channel",
        "stride_row",
        "stride_column",
        "inverse_bits",
        "rows",
        "columns",
    ]
)  # fmt: skip -- one compilation for all images
def _resize(  # type: ignore[no-untyped-def]
    image,  # (3, source_height, source_width) with these strides
    mean,  # (3,) float32
    std,  # (3,) float32
    out,  # (N, padded_height, padded_width, 3)
    index,  # of the image in `out`
    source_height,
    source_width,
    stride_channel,
    stride_row,
    stride_column,
    inverse_bits,  # of the float64 that a step of one pixel is in the source
    rows,  # of the resized image
    columns,
    padded_height,
    padded_width,  # with `out`, a multiple of 16: numbers are written in groups
    ROWS: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    """Some rows of some columns: resized, normalised, and 0 beyond the resized image."""
    number = tl.program_id(0) * NUMBERS + tl.arange(0, NUMBERS)
    column, channel = number // 3, number % 3
    inverse = inverse_bits.to(tl.float64, bitcast=True)
    left, right, across = _neighbours(column, inverse, source_width)
    plane = image + channel * stride_channel.to(tl.int64)
    left, right = plane + left * stride_column.to(tl.int64), plane + right * stride_column.to(tl.int64)
    shift, divisor = tl.load(mean + channel), tl.load(std + channel)
    for step in range(ROWS):
        row = tl.program_id(1) * ROWS + step
        upper, lower, down = _neighbours(row, inverse, source_height)
        upper, lower = upper * stride_row.to(tl.int64), lower * stride_row.to(tl.int64)
        inside = column < tl.where(row < rows, columns, 0)
        a = tl.load(left + upper, mask=inside, other=0).to(tl.float32)
        b = tl.load(right + upper, mask=inside, other=0).to(tl.float32)
        c = tl.load(left + lower, mask=inside, other=0).to(tl.float32)
        d = tl.load(right + lower, mask=inside, other=0).to(tl.float32)
        before, after = a * (1 - down) + c * down, b * (1 - down) + d * down
        value = tl.div_rn(before * (1 - across) + after * across - shift, divisor)
        value = tl.where(inside, value, 0.0).to(out.dtype.element_ty)
        if row < padded_height:
            place = out + (index.to(tl.int64) * padded_height + row) * (3 * padded_width) + number
            tl.store(place, value, mask=number < 3 * padded_width)


def transform(
    images: list[Tensor],
    mean: Tensor,
    std: Tensor,
    scales: list[float],
    sizes: list[int],
    height: int,
    width: int,
    dtype: torch.dtype,
) -> Tensor:
    """As `model.ops.transform`; the order of its roundings differs from the plain form's."""
    batch = torch.empty((len(images), height, width, 3), dtype=dtype, device=mean.device)
    grid = (triton.cdiv(3 * width, NUMBERS), triton.cdiv(height, ROWS))
    for i, (image, scale) in enumerate(zip(images, scales, strict=True)):
        (inverse,) = struct.unpack("q", struct.pack("d", 1 / scale))  # Triton would take a float in float32
        source = (*image.shape[1:], *image.stride(), inverse, sizes[2 * i], sizes[2 * i + 1])
        _resize[grid](image, mean, std, batch, i, *source, height, width, ROWS, NUMBERS, enable_fp_fusion=False)
    return batch.permute(0, 3, 1, 2)

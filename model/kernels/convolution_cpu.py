"""Convolution on a CPU; large ones of 3 x 3 with a quarter of the multiplications (Lavin & Gray 2016)."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.interface.host import multiplies_bfloat16
from model.kernels.plain import convolution_torch


def convolution(
    features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool, stride: int
) -> Tensor:
    """As `model.ops.convolution`, with a backward."""
    if torch.is_grad_enabled():
        return convolution_torch(features, weight, bias, other, relu, stride)
    if takes_winograd(features, weight, stride):
        found = winograd(features, weight, bias)
    elif relu and features.numel() > 0 and has_fused(features.dtype):
        return fused(features, weight, bias, other, stride)
    else:
        found = F.conv2d(features, weight, bias, stride, weight.size(2) // 2)
    found = found if other is None else found.add_(other)
    return F.relu_(found) if relu else found


def takes_winograd(features: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether `winograd` can compute a convolution, and is quicker."""
    possible = weight.size(2) == 3 and stride == 1 and features.dtype == torch.float32
    return possible and features.size(1) >= 256 and features.size(2) * features.size(3) >= 2048  # repays the transforms


def fused(features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, stride: int) -> Tensor:
    """A convolution, the sum with another tensor where there is one, and a ReLU, in one pass of oneDNN.

    torch's compiler calls these operators. Their numbers are those of the separate passes, to rounding.
    """
    where = [weight.size(2) // 2] * 2, [stride] * 2, [1, 1], 1  # padding, stride, dilation, groups
    library = torch.ops.mkldnn
    if other is None:
        return library._convolution_pointwise(features, weight, bias, *where, "relu", [], "")  # type: ignore[no-any-return]
    sum_and_relu: tuple[Any, ...] = ("add", 1.0, "relu", [], "")
    found: Tensor = library._convolution_pointwise.binary(features, other, weight, bias, *where, *sum_and_relu)
    return found


@functools.cache
def has_fused(dtype: torch.dtype) -> bool:
    """Whether this torch and processor have `fused` for a type; a small one is tried.

    Without units for bfloat16 oneDNN has slow forms at best.
    """
    if dtype not in (torch.float32, torch.bfloat16) or (dtype == torch.bfloat16 and not multiplies_bfloat16()):
        return False
    ones = torch.ones((1, 32, 4, 4), dtype=dtype).contiguous(memory_format=torch.channels_last)
    kernel, bias = torch.ones((32, 32, 1, 1), dtype=dtype), torch.ones(32, dtype=dtype)
    try:
        return torch.backends.mkldnn.is_available() and bool((fused(ones, kernel, bias, ones, 1) == 34).all())
    except (AttributeError, RuntimeError):
        return False


def winograd(features: Tensor, weight: Tensor, bias: Tensor | None, tiles: int = 256) -> Tensor:
    """A 3 x 3 convolution with 36 multiplications a channel for 4 x 4 positions, where the plain sum takes 144.

    Windows of 6 x 6 become values of polynomials, values are multiplied, products become 4 x 4 results. All three steps
    are matrix products. A few rows of tiles are computed at once, so that everything stays in the cache.

    Args:
        features: (N, C, H, W) float32, best channels-last.
        weight: (O, C, 3, 3).
        bias: (O,) or None.
        tiles: how many pieces of 4 x 4 positions are computed at once.

    Returns:
        (N, O, H, W), channels-last; equal to the plain sum to about 1e-6 of its size.
    """
    count, channels, height, width = features.shape
    outputs = weight.size(0)
    shift = weight.new_zeros(outputs) if bias is None else bias
    to_values, kernel_to_values, to_results = transforms()
    kernel = torch.mm(kernel_to_values, weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, outputs, channels)
    kernel = kernel.transpose(1, 2)
    down, across = (height + 3) // 4, (width + 3) // 4
    rows = min(max(tiles // across, 1), down)
    # 16 more in each row: else the rows lie a multiple of 4 kB apart and evict each other from the cache
    windows = features.new_empty((36, rows * across * channels + 16))
    values = torch.empty_like(windows)
    products = features.new_empty((36, rows * across * outputs + 16))
    result = features.new_empty((count, 4 * down, 4 * across, outputs))
    for i, image in enumerate(features.permute(0, 2, 3, 1)):
        for first in range(0, down, rows):
            last = min(first + rows, down)
            size = (last - first) * across
            band = rows_around(image, 4 * first - 1, 4 * last + 1, 4 * across + 2)
            window, value = windows[:, : size * channels], values[:, : size * channels]
            product = products[:, : size * outputs]
            cut = band.unfold(0, 6, 4).unfold(1, 6, 4).permute(3, 4, 0, 1, 2)  # (6, 6, rows, across, C)
            window.view(cut.shape).copy_(cut)
            torch.mm(to_values, window, out=value)
            torch.bmm(value.view(36, size, channels), kernel, out=product.view(36, size, outputs))
            found = torch.mm(to_results, product).view(4, 4, last - first, across, outputs).permute(2, 0, 3, 1, 4)
            torch.add(found, shift, out=result[i, 4 * first : 4 * last].view(found.shape))
    return result[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def rows_around(image: Tensor, top: int, bottom: int, width: int) -> Tensor:
    """Rows top:bottom and columns -1:width - 1 of an image (H, W, C), 0 beyond its borders."""
    height = image.size(0)
    inside = image[max(top, 0) : min(bottom, height)]
    return F.pad(inside, [0, 0, 1, width - 1 - image.size(1), max(-top, 0), max(bottom - height, 0)])


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Three matrices: windows to values (36, 36), kernel to values (36, 9), products to results (16, 36).

    The polynomials are evaluated at 0, +-a, +-b and infinity, a = sqrt(1/2), b = sqrt(2): the usual 0, +-1, +-2 lose
    twice as much to rounding.
    """
    a, b = 0.5**0.5, 2.0**0.5
    into = [[1.0, 0.0, -2.5, 0.0, 1.0, 0.0]]
    into += [[0.0, -b, -2.0, a, 1.0, 0.0], [0.0, b, -2.0, -a, 1.0, 0.0]]
    into += [[0.0, -a, -0.5, b, 1.0, 0.0], [0.0, a, -0.5, -b, 1.0, 0.0]]
    into += [[0.0, 1.0, 0.0, -2.5, 0.0, 1.0]]
    kernel = [
        [6.0, 0.0, 0.0],
        [-4.0, -4 * a, -2.0],
        [-4.0, 4 * a, -2.0],
        [1.0, b, 2.0],
        [1.0, -b, 2.0],
        [0.0, 0.0, 6.0],
    ]
    back = [[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], [0.0, a, -a, b, -b, 0.0]]
    back += [[0.0, 0.5, 0.5, 2.0, 2.0, 0.0], [0.0, 0.5 * a, -0.5 * a, 2 * b, -2 * b, 1.0]]
    sides = [torch.tensor(into), torch.tensor(kernel) / 6, torch.tensor(back)]
    both = [torch.kron(side, side) for side in sides]  # along rows and columns at once
    return both[0], both[1], both[2]

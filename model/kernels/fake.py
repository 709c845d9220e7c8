"""The fake form of each operator: the shape, type and strides of its result, without the numbers.

`torch.export` and `torch.compile` run a network on tensors without values, and ask these. Strides are those of the
forms for a CPU. On what the network gives them, fake forms do not choose by a size that may be free, such as an
image's height: the choice would bind whoever exports to some sizes. `deform_conv2d` and `reinterpret` have none: torch
runs their one form, which calls other operators, on such tensors too.
"""

# ruff: noqa: ARG001 -- all take the arguments of their schema

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.kernels.convolution_cpu import takes_winograd
from model.kernels.plain import convolution_torch

TABLE_BYTES = 256 * 7 * 8
"""Of the numbers of an image's segments, see `model.ops.segments`."""


def convolution(
    features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool, stride: int
) -> Tensor:
    """As torch's own convolution, which is channels-last if its input or its weights are; Winograd's always is."""
    found = convolution_torch(features, weight, bias, other, relu, stride)
    if found.is_contiguous(memory_format=torch.channels_last) or features.is_cuda:
        return found
    if takes_winograd(features, weight, stride):
        return torch.empty_like(found, memory_format=torch.channels_last)
    return found


def deformable_convolution(
    features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool
) -> Tensor:
    """(N, O, H, W) of the features' type, channels-last."""
    return _channels_last(features, features.size(0), weight.size(0), features.size(2), features.size(3))


def add_enlarged(fine: Tensor, coarse: Tensor) -> Tensor:
    """As the finer map."""
    return torch.empty_like(fine)


def sum_levels(levels: list[Tensor], bias: Tensor) -> Tensor:
    """As the first level, float32."""
    return torch.empty_like(levels[0], dtype=torch.float32)


def roi_align(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """(R, C, size, size) of the features' type, channels-last."""
    return _channels_last(features[0], rois.size(0), features[0].size(1), size, size)


def nms(boxes: Tensor, threshold: float) -> Tensor:
    """(G, K) bool."""
    return boxes.new_empty(boxes.shape[:2], dtype=torch.bool)


def panoptic(logits: Tensor, boxes: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Two maps (N, 4 h, 4 w) uint8, and (n,) int64."""
    shape = logits.size(0), 4 * logits.size(2), 4 * logits.size(3)
    channels, semantic = (logits.new_empty(shape, dtype=torch.uint8) for _ in range(2))
    return channels, semantic, logits.new_empty(boxes.shape[:1], dtype=torch.int64)


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
    """(N, 3, height, width) of the type, channels-last."""
    return _channels_last(mean, len(images), 3, height, width, dtype)


def segments(
    channels: Tensor,
    semantic: Tensor,
    logits: Tensor,
    classes: Tensor,
    scores: Tensor,
    order: Tensor,
    counts: list[int],
    sizes: list[int],
    scales: list[float],
    originals: list[int],
    stuff: int,
    stuff_area_limit: int,
) -> Tensor:
    """As many bytes as the tables and the maps of all images have."""
    pixels = sum(height * width for height, width in zip(originals[::2], originals[1::2], strict=True))
    return channels.new_empty((TABLE_BYTES * len(counts) + pixels,), dtype=torch.uint8)


def numbers(numbers: list[float], like: Tensor) -> Tensor:
    """(n,) float32."""
    return like.new_empty((len(numbers),), dtype=torch.float32)


def to_host(numbers: Tensor) -> Tensor:
    """The same tensor again; of one on a GPU, another on the host."""
    return torch.empty(numbers.shape, dtype=numbers.dtype) if numbers.is_cuda else numbers.detach()


def has_kernels(device: Tensor) -> bool:
    """No: what has no values runs no kernel."""
    return False


def _channels_last(
    like: Tensor, count: int, channels: int, height: int, width: int, dtype: torch.dtype | None = None
) -> Tensor:
    """(N, C, H, W) on the device of a tensor and, if none is given, of its type; as pixels are made one by one."""
    return like.new_empty((count, height, width, channels), dtype=dtype or like.dtype).permute(0, 3, 1, 2)


FAKES: dict[str, Callable[..., Any]] = {
    "convolution": convolution,
    "deformable_convolution": deformable_convolution,
    "add_enlarged": add_enlarged,
    "sum_levels": sum_levels,
    "roi_align": roi_align,
    "nms": nms,
    "panoptic": panoptic,
    "transform": transform,
    "segments": segments,
    "numbers": numbers,
    "to_host": to_host,
    "has_kernels": has_kernels,
}
"""By the name of an operator, its fake form; arguments as in its schema."""

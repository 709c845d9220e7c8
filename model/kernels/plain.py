"""Forms of operators by torch and torchvision, with gradients, on every device: they are right wherever torch is."""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

OUTSIDE = 1e9  # an offset that leads out of every image


def convolution_torch(
    features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool, stride: int
) -> Tensor:
    """`model.ops.convolution` by torch, one pass after the other."""
    found = F.conv2d(features, weight, bias, stride, weight.size(2) // 2)
    if other is not None:
        found = found + other
    return F.relu(found) if relu else found


def deform_conv2d_torchvision(
    features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False
) -> Tensor:
    """`model.ops.deform_conv2d` by torchvision, in float32.

    torchvision takes positions in the tensor's type: half precision would misplace samples by up to half a pixel.
    """
    bias32 = bias.float() if bias is not None else None
    moves = offsets.float().nan_to_num(OUTSIDE, OUTSIDE, OUTSIDE)
    out: Tensor = torchvision.ops.deform_conv2d(features.float(), moves, weight.float(), bias32, padding=(1, 1))
    out = out.to(features.dtype)
    return F.relu(out) if relu else out


def add_enlarged_torch(fine: Tensor, coarse: Tensor) -> Tensor:
    """`model.ops.add_enlarged` by torch."""
    return fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest")


def sum_levels_torch(levels: list[Tensor], bias: Tensor) -> Tensor:
    """`model.ops.sum_levels` by torch, one pass after the other."""
    total = levels[0].float()
    for k, level in enumerate(levels[1:], start=1):
        total = total + F.interpolate(level.float(), scale_factor=2.0**k, mode="bilinear", align_corners=False)
    return total + bias.float()[:, None, None]


def roi_align_torchvision(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """`model.ops.roi_align` by torchvision, in float32: half precision would move boxes."""
    pooled = features[0].new_zeros((len(rois), features[0].size(1), size, size))
    for k, level in enumerate(features):
        chosen = torch.where(levels == k)[0]
        aligned = torchvision.ops.roi_align(level.float(), rois[chosen], size, 0.25 / 2**k, 2, False)
        pooled = pooled.index_copy(0, chosen, aligned.to(pooled.dtype))
    return pooled

"""Convolution on a GPU: cuDNN and cuBLAS add bias, sum and ReLU where they compute, not in passes of their own."""

import torch
import torch.nn.functional as F
from torch import Tensor


def convolution(
    features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool, stride: int
) -> Tensor:
    """As `model.ops.convolution`, forward only."""
    half = features.dtype in (torch.float16, torch.bfloat16) and features.numel() > 0
    size = weight.size(2)
    if half and relu:
        shape = [stride] * 2, [size // 2] * 2, [1, 1], 1
        if other is None:
            return torch.cudnn_convolution_relu(features, weight, bias, *shape)
        return torch.cudnn_convolution_add_relu(features, weight, other, 1.0, bias, *shape)
    if half and size == stride == 1 and bias is not None and len(bias) % 8 == 0:
        pixels = features.permute(0, 2, 3, 1)
        found = torch.addmm(bias, pixels.flatten(0, 2), weight.flatten(1).t())
        found = found.view(*pixels.shape[:3], len(bias)).permute(0, 3, 1, 2)
    else:
        found = F.conv2d(features, weight, bias, stride, size // 2)
    found = found if other is None else found.add_(other)
    return F.relu_(found) if relu else found

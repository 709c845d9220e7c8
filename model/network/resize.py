"""Enlargement of feature maps by a factor.

`torch.nn.functional.interpolate` has the same answers, but TorchScript would compile every mode of it into the archive,
with operators that only the newest torch has.
"""

import torch
from torch import Tensor


def enlarge_nearest(maps: Tensor, factor: float) -> Tensor:
    """(N, C, H, W) -> (N, C, factor H, factor W): each pixel is repeated."""
    return torch.ops.aten.upsample_nearest2d(maps, None, [factor, factor])  # type: ignore[no-any-return]


def enlarge_bilinear(maps: Tensor, factor: float) -> Tensor:
    """(N, C, H, W) -> (N, C, factor H, factor W): bilinear, pixels are squares (`align_corners=False`)."""
    return torch.ops.aten.upsample_bilinear2d(maps, None, False, [factor, factor])  # type: ignore[no-any-return]

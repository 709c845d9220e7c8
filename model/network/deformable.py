"""The deformable convolution: it samples where its input tells it to (Dai et al. 2017)."""

import math

from torch import Tensor, nn

from model import ops


class DeformableConv(nn.Conv2d):
    """3 x 3 deformable convolution whose offsets an ordinary convolution predicts from the same input.

    With `relu` set, a ReLU comes last.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether the sampled convolution has a bias; the offset convolution always has one.
        offset_limit: offsets are clamped to this many pixels. It is infinite in the published networks. A network
            trained from scratch needs a finite one, or it collapses in its first minutes.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool, offset_limit: float = math.inf) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)
        self.offset = nn.Conv2d(in_channels, 18, 3, padding=1)
        self.offset_limit = offset_limit
        self.limited = math.isfinite(offset_limit)
        self.relu = False
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        offsets = self.offset(features)
        if self.limited:
            offsets = offsets.clamp(-self.offset_limit, self.offset_limit)
        return ops.deform_conv2d(features, offsets, self.weight, self.bias, self.relu)

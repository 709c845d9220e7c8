"""The 3 x 3 convolution of backbone, pyramid and proposal head."""

from torch import Tensor, nn

from model import ops


class Conv3x3(nn.Conv2d):
    """3 x 3 convolution with stride 1 and padding 1, in the fastest form of its device.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether a bias is added.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return ops.conv3x3(features, self.weight, self.bias)

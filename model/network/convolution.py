"""The convolution of every part of the network: bias, sum and ReLU belong to it."""

from torch import Tensor, nn

from model import ops
from model.network.deformable import DeformableConv


class Convolution(nn.Conv2d):
    """A convolution that keeps the size, or divides it by its stride; its device adds what follows without another pass.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        size: rows and columns of the kernel, an odd number.
        stride: stride.
        bias: whether a bias is added.
        relu: whether a ReLU comes last.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stride: int = 1, bias: bool = True, relu: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=bias)
        self.step = stride
        self.relu = relu

    def forward(self, features: Tensor, other: Tensor | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride); `other`, of that shape, is added before the ReLU."""
        return ops.convolution(features, self.weight, self.bias, other, self.relu, self.step)


def normed(conv: Convolution | DeformableConv, norm: nn.Module) -> list[nn.Module]:
    """A convolution, its norm and a ReLU, to run one after the other; without a norm the convolution has the ReLU."""
    conv.relu = isinstance(norm, nn.Identity)
    return [conv, norm, nn.Identity() if conv.relu else nn.ReLU(inplace=True)]

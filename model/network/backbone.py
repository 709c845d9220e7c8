"""Residual backbone and feature pyramid."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from model import ops
from model.network.convolution import Convolution
from model.network.deformable import DeformableConv
from model.network.structures import Pyramid, Stages

Norm = Callable[[int], nn.Module]


class FrozenNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """A batch norm that never changes, in one pass over its input. In archives it is folded, see `fold_norms`."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and type; scale and shift are computed in float32."""
        scale, shift = self.scale_and_shift()
        return torch.addcmul(shift[:, None, None].to(x.dtype), x, scale[:, None, None].to(x.dtype))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The factor of each channel and what is added after it, (C,) float32 each."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


def fold_norms(network: nn.Module) -> None:
    """Move the scale and shift of each frozen norm into its convolution, in place; the norm becomes the identity.

    A norm and its convolution are siblings whose names agree: `norm1` and `conv1`. The ReLU that comes after them, and
    the sum before it, move into the convolution too.
    """
    for parent in list(network.modules()):
        norms = {name: norm for name, norm in parent.named_children() if isinstance(norm, FrozenNorm)}
        for name, norm in norms.items():
            conv = parent.get_submodule(name.replace("norm", "conv"))
            scale, shift = norm.scale_and_shift()
            conv.weight = nn.Parameter(conv.get_parameter("weight") * scale[:, None, None, None])
            conv.bias = nn.Parameter(shift)
            setattr(parent, name, nn.Identity())
        if norms and isinstance(parent, (Stem, Bottleneck)):
            parent.fold()


def unfold_norms(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network with folded norms, for one with norms: each norm then only adds its convolution's bias."""
    weights = dict(weights)
    for name, norm in network.named_modules():
        bias = name.replace("norm", "conv") + ".bias"
        if isinstance(norm, FrozenNorm) and bias in weights:
            shift = weights.pop(bias)
            one, zero = torch.ones_like(shift), torch.zeros_like(shift)
            parts = {"weight": one, "bias": shift, "running_mean": zero, "running_var": one - norm.eps}
            weights |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    return weights


class Stem(nn.Module):
    """7 x 7 convolution with stride 2, norm, ReLU, 3 x 3 max pooling with stride 2."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.conv = Convolution(3, width, 7, stride=2, bias=False)
        self.norm = norm(width)
        self.folded = False

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, width, H / 4, W / 4)."""
        out = self.conv(pixels)
        if not self.folded:
            out = F.relu_(self.norm(out))
        return F.max_pool2d(out, 3, stride=2, padding=1)

    def fold(self) -> None:
        """Let the convolution end with the ReLU; the norm is in it already."""
        self.conv.relu = self.folded = True


class Shortcut(nn.Module):
    """The 1 x 1 projection beside a stage's first block."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv = Convolution(in_channels, out_channels, 1, stride=stride, bias=False)
        self.norm = norm(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride)."""
        return self.norm(self.conv(features))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with a residual (He et al. 2016); the first convolution has the stride, as in Caffe.

    Args:
        in_channels: channels of the input.
        planes: channels of the two inner convolutions; the output has four times as many.
        stride: stride of the block.
        norm: makes a norm for a number of channels.
        conv: the 3 x 3 convolution.
        project: whether the shortcut needs a projection.
    """

    def __init__(self, in_channels: int, planes: int, stride: int, norm: Norm, conv: nn.Module, project: bool) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, planes, 1, stride=stride, bias=False)
        self.norm1 = norm(planes)
        self.conv2 = conv
        self.norm2 = norm(planes)
        self.conv3 = Convolution(planes, 4 * planes, 1, bias=False)
        self.norm3 = norm(4 * planes)
        self.shortcut = Shortcut(in_channels, 4 * planes, stride, norm) if project else nn.Identity()
        self.folded = False

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, 4 planes, H / stride, W / stride)."""
        if self.folded:
            return self.conv3(self.conv2(self.conv1(features)), self.shortcut(features))  # type: ignore[no-any-return]
        out = F.relu_(self.norm1(self.conv1(features)))
        out = F.relu_(self.norm2(self.conv2(out)))
        return F.relu_(self.norm3(self.conv3(out)).add_(self.shortcut(features)))

    def fold(self) -> None:
        """Let the convolutions end with the ReLUs, and the last add the shortcut; the norms are in them already."""
        self.conv1.relu = self.conv2.relu = self.conv3.relu = self.folded = True  # type: ignore[assignment]


class ResNet(nn.Module):
    """Residual network without its classifier.

    Args:
        blocks: how many blocks stages C2..C5 have.
        norm: makes a norm for a number of channels.
        width: channels of the stem; stage outputs have 4, 8, 16, 32 times as many.
        deformable_from: first stage (2..5) whose 3 x 3 convolutions are deformable; 6 for none.
        offset_limit: largest offset of those convolutions, pixels; see `DeformableConv`.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        norm: Norm,
        width: int = 64,
        deformable_from: int = 6,
        offset_limit: float = math.inf,
    ) -> None:
        super().__init__()

        def stage(level: int) -> nn.Sequential:
            planes = width * 2 ** (level - 2)
            layers = []
            for i in range(blocks[level - 2]):
                in_channels = 4 * planes if i else (width if level == 2 else 2 * planes)
                conv: nn.Module = (
                    DeformableConv(planes, planes, bias=False, offset_limit=offset_limit)
                    if level >= deformable_from
                    else Convolution(planes, planes, 3, bias=False)
                )
                stride = 2 if i == 0 and level > 2 else 1
                layers.append(Bottleneck(in_channels, planes, stride, norm, conv, project=i == 0))
            return nn.Sequential(*layers)

        self.stem = Stem(width, norm)
        self.c2, self.c3, self.c4, self.c5 = stage(2), stage(3), stage(4), stage(5)

    def forward(self, pixels: Tensor) -> Stages:
        """(N, 3, H, W), sides multiples of 32 -> C2..C5."""
        c2 = self.c2(self.stem(pixels))
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        return Stages(c2, c3, c4, self.c5(c4))


class GlobalContext(nn.Module):
    """A linear map of the average of C5 over all positions, padding included (quirk Q12)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, 1, 1)."""
        return self.linear(features.mean((2, 3)))[:, :, None, None]  # type: ignore[no-any-return]


class NoContext(nn.Module):
    """Zero, for networks without `GlobalContext`."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (1, 1, 1, 1) zero."""
        return features.new_zeros((1, 1, 1, 1))


class FeaturePyramid(nn.Module):
    """Top-down pyramid (Lin et al. 2017) with P6 for proposals and, where wanted, a global context added at its top.

    Args:
        channels: channels of C2..C5.
        width: channels of every level.
        context: whether the global average of C5 is added before the top-down path.
        norm: makes the norm after each convolution; the published networks have none.
    """

    def __init__(self, channels: list[int], width: int, context: bool, norm: Norm = nn.Identity) -> None:
        super().__init__()

        def lateral(in_channels: int) -> nn.Sequential:
            return nn.Sequential(Convolution(in_channels, width, 1), norm(width))

        def output() -> nn.Sequential:
            return nn.Sequential(Convolution(width, width, 3), norm(width))

        self.lateral2, self.lateral3, self.lateral4, self.lateral5 = (lateral(c) for c in channels)
        self.output2, self.output3, self.output4, self.output5 = output(), output(), output(), output()
        self.context = GlobalContext(channels[3], width) if context else NoContext()

    def forward(self, stages: Stages) -> Pyramid:
        """C2..C5 -> P2..P6."""
        top5 = self.lateral5(stages.c5) + self.context(stages.c5)
        top4 = ops.add_enlarged(self.lateral4(stages.c4), top5)
        top3 = ops.add_enlarged(self.lateral3(stages.c3), top4)
        top2 = ops.add_enlarged(self.lateral2(stages.c2), top3)
        p5 = self.output5(top5)
        p6 = F.max_pool2d(p5, 1, stride=2)
        return Pyramid(self.output2(top2), self.output3(top3), self.output4(top4), p5, p6)

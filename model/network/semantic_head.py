"""Semantic segmentation with deformable convolutions over P2..P5 (Xiong et al. 2019, section 3)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import ops
from model.network.backbone import Norm
from model.network.convolution import normed
from model.network.deformable import DeformableConv
from model.network.structures import Pyramid


class SemanticHead(nn.Module):
    """Semantic logits: layers shared by P2..P5, whose results are brought to stride 4, stacked and scored.

    Args:
        widths: channels of the pyramid and of each deformable layer after it.
        classes: number of classes, stuff and things (S).
        norm: makes the norm after each layer; the published networks have none.
        offset_limit: largest offset of the convolutions, pixels; see `DeformableConv`.
    """

    def __init__(
        self, widths: list[int], classes: int, norm: Norm = nn.Identity, offset_limit: float = math.inf
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += normed(DeformableConv(before, after, bias=True, offset_limit=offset_limit), norm(after))
        self.layers = nn.Sequential(*layers)
        self.logits = nn.Conv2d(4 * widths[-1], classes, 1)

    def features(self, pyramid: Pyramid) -> Tensor:
        """(N, 4 width, H / 4, W / 4): P2..P5 after the shared layers, stacked."""
        levels = [self.layers(pyramid.p2)]
        for k, level in enumerate((pyramid.p3, pyramid.p4, pyramid.p5), start=1):
            levels.append(F.interpolate(self.layers(level), scale_factor=2.0**k, mode="bilinear", align_corners=False))
        return torch.cat(levels, dim=1)

    def forward(self, pyramid: Pyramid) -> Tensor:
        """Logits (N, S, H / 4, W / 4) float32.

        Each level is scored, then enlarged, then added: the same sum as from `features`, but nothing is stacked.
        """
        levels = [pyramid.p2, pyramid.p3, pyramid.p4, pyramid.p5]
        bias = self.logits.bias
        assert bias is not None
        return ops.sum_levels([self.score(level, k) for k, level in enumerate(levels)], bias)

    def score(self, level: Tensor, k: int) -> Tensor:
        """Level k's part of the logits, without the bias: (N, S, h, w)."""
        features = self.layers(level)
        images, width, height, columns = features.shape
        matrix = self.logits.weight[:, k * width : (k + 1) * width, 0, 0].expand(images, -1, -1)
        pixels = features.permute(0, 2, 3, 1).flatten(1, 2)  # -> (N, h w, width), free in channels-last
        part = torch.bmm(matrix, pixels.transpose(1, 2))
        return part.view(images, -1, height, columns)

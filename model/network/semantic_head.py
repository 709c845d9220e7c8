"""Semantic segmentation with deformable convolutions over P2..P5 (Xiong et al. 2019, section 3.1)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.backbone import Norm
from model.network.deformable import DeformableConv
from model.network.structures import Pyramid


class SemanticHead(nn.Module):
    """One sub-network shared by P2..P5, whose results are brought to stride 4, stacked and scored.

    Args:
        widths: channels of the pyramid and of each deformable layer after it.
        classes: S, stuff and things.
        norm: after each layer; the published networks have none.
        offset_limit: see `DeformableConv`.
    """

    def __init__(
        self, widths: list[int], classes: int, norm: Norm = nn.Identity, offset_limit: float = math.inf
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [DeformableConv(before, after, bias=True, offset_limit=offset_limit), norm(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.logits = nn.Conv2d(4 * widths[-1], classes, 1)

    def features(self, pyramid: Pyramid) -> Tensor:
        """(N, 4 width, H / 4, W / 4): P2..P5 after the shared layers, stacked."""
        p3 = F.interpolate(self.layers(pyramid.p3), scale_factor=2.0, mode="bilinear", align_corners=False)
        p4 = F.interpolate(self.layers(pyramid.p4), scale_factor=4.0, mode="bilinear", align_corners=False)
        p5 = F.interpolate(self.layers(pyramid.p5), scale_factor=8.0, mode="bilinear", align_corners=False)
        return torch.cat([self.layers(pyramid.p2), p3, p4, p5], dim=1)

    def forward(self, pyramid: Pyramid) -> Tensor:
        """Logits (N, S, H / 4, W / 4)."""
        return self.logits(self.features(pyramid))  # type: ignore[no-any-return]

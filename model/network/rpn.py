"""Region proposals (Ren et al. 2015) over the pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network import boxes as box_ops
from model.network.anchors import Anchors
from model.network.backbone import Norm
from model.network.structures import Proposals, Pyramid, RpnOutputs


def propose(
    outputs: RpnOutputs, anchors: list[Tensor], sizes: list[tuple[int, int]], pre_nms: int, post_nms: int
) -> list[Proposals]:
    """The best boxes of each image.

    Per level the `pre_nms` best anchors are moved, clipped to the unpadded image and thinned to `post_nms`; the levels'
    survivors then compete by score for `post_nms` places (quirk Q13).

    Args:
        outputs: of the head.
        anchors: per level (h w A, 4).
        sizes: height and width of each image before padding.
        pre_nms: anchors of a level that are looked at.
        post_nms: boxes of a level, and of an image, that stay.

    Returns:
        One `Proposals` an image, by descending score.
    """
    results: list[Proposals] = []
    for i, size in enumerate(sizes):
        level_boxes: list[Tensor] = []
        level_scores: list[Tensor] = []
        for k, level_anchors in enumerate(anchors):
            scores = outputs.logits[k][i].permute(1, 2, 0).flatten().float().sigmoid()  # (A, h, w) -> (h w A)
            deltas = outputs.deltas[k][i].permute(1, 2, 0).reshape(-1, 4).float()  # (4 A, h, w) -> (h w A, 4)
            scores, order = scores.topk(min(pre_nms, scores.size(0)))
            boxes = box_ops.decode(level_anchors[order], deltas[order], [1.0, 1.0, 1.0, 1.0])
            boxes = box_ops.clip(boxes, size[0], size[1])
            keep = box_ops.nms(boxes, scores, 0.7)[:post_nms]
            level_boxes.append(boxes[keep])
            level_scores.append(scores[keep])
        scores = torch.cat(level_scores)
        scores, order = scores.topk(min(post_nms, scores.size(0)))
        results.append(Proposals(torch.cat(level_boxes)[order], scores))
    return results


class RegionProposalNetwork(nn.Module):
    """One small head shared over P2..P6, and the selection of its best boxes.

    Args:
        width: channels of the pyramid.
        anchors: of the levels.
        anchors_per_cell: number of ratios.
        pre_nms: see `propose`.
        post_nms: see `propose`.
        norm: after the 3 x 3 convolution; the published networks have none.
    """

    def __init__(
        self, width: int, anchors: Anchors, anchors_per_cell: int, pre_nms: int, post_nms: int, norm: Norm = nn.Identity
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = norm(width)
        self.logits = nn.Conv2d(width, anchors_per_cell, 1)
        self.deltas = nn.Conv2d(width, 4 * anchors_per_cell, 1)
        self.anchors = anchors
        self.pre_nms = pre_nms
        self.post_nms = post_nms

    def head(self, pyramid: Pyramid) -> RpnOutputs:
        """Logits and deltas of every anchor."""
        hidden = [F.relu(self.norm(self.conv(level))) for level in pyramid]
        return RpnOutputs([self.logits(level) for level in hidden], [self.deltas(level) for level in hidden])

    def level_anchors(self, pyramid: Pyramid) -> list[Tensor]:
        """Per level (h w A, 4)."""
        return self.anchors([(level.size(2), level.size(3)) for level in pyramid])  # type: ignore[no-any-return]

    def forward(self, pyramid: Pyramid, sizes: list[tuple[int, int]]) -> list[Proposals]:
        """Proposals of each image; `sizes` are the heights and widths before padding."""
        return propose(self.head(pyramid), self.level_anchors(pyramid), sizes, self.pre_nms, self.post_nms)

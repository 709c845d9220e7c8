"""Region proposals (Ren et al. 2015) over the pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network import boxes as box_ops
from model.network.anchors import Anchors
from model.network.backbone import Norm
from model.network.convolution import Convolution
from model.network.structures import Proposals, Pyramid, RpnOutputs


def propose(
    outputs: RpnOutputs,
    anchors: list[Tensor],
    limits: Tensor,
    pre_nms: int,
    post_nms: int,
    nms_threshold: float,
) -> list[Proposals]:
    """The best boxes of each image.

    On each level the `pre_nms` best anchors are moved by their deltas, clipped to the unpadded image, and suppressed
    down to `post_nms`. The boxes that remain on all levels then compete by score for `post_nms` rows (quirk Q13). All
    levels of all images are computed together, and the host never waits: rows that stay empty are padding, see
    `drop_padding`.

    Args:
        outputs: logits and deltas of every anchor.
        anchors: the anchors of each level, (h w A, 4).
        limits: (N, 4), the largest corners inside each image.
        pre_nms: how many anchors of a level enter suppression.
        post_nms: how many boxes of a level, and of an image, are kept.
        nms_threshold: a box is suppressed by a better one of its level if their IoU is above this.

    Returns:
        One `Proposals` for each image, by descending score, all with the same number of rows.
    """
    images = len(limits)
    level_starts: list[Tensor] = []
    level_deltas: list[Tensor] = []
    level_scores: list[Tensor] = []
    for k, level_anchors in enumerate(anchors):
        logits = outputs.logits[k].permute(0, 2, 3, 1).flatten(1)  # (N, A, h, w) -> (N, h w A)
        deltas = outputs.deltas[k].permute(0, 2, 3, 1).reshape(images, -1, 4)  # (N, 4 A, h, w) -> (N, h w A, 4)
        scores, order = box_ops.top_scores(logits.float().sigmoid(), pre_nms)
        level_starts.append(level_anchors[order])
        level_deltas.append(box_ops.gather_rows(deltas, order))
        level_scores.append(scores)
    counts = [scores.size(1) for scores in level_scores]
    longest = max(counts)
    starts, deltas = torch.cat(level_starts, 1).flatten(0, 1), torch.cat(level_deltas, 1).flatten(0, 1)
    boxes = box_ops.clip(box_ops.decode(starts, deltas.float()).view(images, -1, 4), limits[:, None])
    levels = boxes.split(counts, 1)
    boxes = torch.stack([F.pad(b, [0, 0, 0, longest - b.size(1)]) for b in levels], dim=1)  # (N, levels, K, 4)
    scores = torch.stack([F.pad(s, [0, longest - s.size(1)], value=-1.0) for s in level_scores], dim=1)
    kept = box_ops.batched_nms(boxes.flatten(0, 1), nms_threshold)
    kept = kept & (kept.cumsum(1) <= post_nms)
    scores, order = box_ops.top_scores(torch.where(kept, scores.flatten(0, 1), -1.0).view(images, -1), post_nms)
    boxes = box_ops.gather_rows(boxes.flatten(1, 2), order)
    return [Proposals(boxes[i], scores[i]) for i in range(images)]


def drop_padding(proposals: Proposals) -> Proposals:
    """The proposals without their padding rows."""
    real = proposals.scores >= 0
    return Proposals(proposals.boxes[real], proposals.scores[real])


class RegionProposalNetwork(nn.Module):
    """One small head shared over P2..P6, and the selection of its best boxes.

    Args:
        width: channels of the pyramid.
        anchors: makes the anchors of each level.
        pre_nms: how many anchors of a level enter suppression.
        post_nms: how many boxes of a level, and of an image, are kept.
        nms_threshold: a box is suppressed by a better one of its level if their IoU is above this.
        norm: makes the norm after the 3 x 3 convolution; the published networks have none.
    """

    def __init__(
        self,
        width: int,
        anchors: Anchors,
        pre_nms: int,
        post_nms: int,
        nms_threshold: float,
        norm: Norm = nn.Identity,
    ) -> None:
        super().__init__()
        self.norm = norm(width)
        self.normed = not isinstance(self.norm, nn.Identity)
        self.conv = Convolution(width, width, 3, relu=not self.normed)
        anchors_per_cell = anchors.cells.size(1)
        self.logits = Convolution(width, anchors_per_cell, 1)
        self.deltas = Convolution(width, 4 * anchors_per_cell, 1)
        self.anchors = anchors
        self.pre_nms = pre_nms
        self.post_nms = post_nms
        self.nms_threshold = nms_threshold

    def head(self, pyramid: Pyramid) -> RpnOutputs:
        """Logits and deltas of every anchor."""
        hidden = [self.conv(level) for level in pyramid]
        if self.normed:
            hidden = [F.relu_(self.norm(level)) for level in hidden]
        return RpnOutputs([self.logits(level) for level in hidden], [self.deltas(level) for level in hidden])

    def level_anchors(self, pyramid: Pyramid) -> list[Tensor]:
        """The anchors of each level of this pyramid, (h w A, 4)."""
        return self.anchors([(level.size(2), level.size(3)) for level in pyramid])  # type: ignore[no-any-return]

    def forward(self, pyramid: Pyramid, limits: Tensor) -> list[Proposals]:
        """Proposals of each image, padding rows included, none beyond the limits (N, 4) of its image."""
        outputs, anchors = self.head(pyramid), self.level_anchors(pyramid)
        return propose(outputs, anchors, limits, self.pre_nms, self.post_nms, self.nms_threshold)

"""Boxes, classes and masks of things: the two heads of Mask R-CNN (He et al. 2017) and their post-processing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import ops
from model.network import boxes as box_ops
from model.network.backbone import Norm
from model.network.convolution import Convolution, normed
from model.network.structures import PaddedDetections, Pyramid


def pyramid_levels(boxes: Tensor, canonical_side: float) -> Tensor:
    """The level 0..3 (P2..P5) that each box is pooled from.

    Boxes of at least `canonical_side` take P4, those of twice that side P5; each halving takes one level finer.

    Args:
        boxes: (R, 4) with inclusive ends (quirk Q2).
        canonical_side: side of the smallest box that is pooled from P4, pixels.

    Returns:
        (R,) int64.
    """
    side = box_ops.areas(boxes).sqrt()
    return torch.floor(2 + torch.log2(side / canonical_side + 1e-6)).clamp(0, 3).long()


def pool(pyramid: Pyramid, boxes: list[Tensor], size: int, canonical_side: float) -> Tensor:
    """RoIAlign of each box from its level, without the half-pixel shift (quirk Q2).

    Args:
        pyramid: features of the batch.
        boxes: per image (R_i, 4) xyxy in pixels of the resized image.
        size: rows and columns of the result.
        canonical_side: side of the smallest box that is pooled from P4, pixels.

    Returns:
        (sum R_i, C, size, size), in the order of the boxes; (0, C, size, size) for no boxes.
    """
    every = torch.cat(boxes)
    images = torch.cat([every.new_full((len(b), 1), float(i)) for i, b in enumerate(boxes)])
    levels = pyramid_levels(every, canonical_side)
    features = [pyramid.p2, pyramid.p3, pyramid.p4, pyramid.p5]
    return ops.roi_align(features, torch.cat([images, every], dim=1), levels, size)


class BoxHead(nn.Module):
    """Two linear layers, then class logits and box deltas.

    Args:
        in_channels: channels of the pyramid.
        side: rows and columns of a pooled region, S.
        width: outputs of each of the two layers.
        classes: number of classes, background included.
        norm: makes the norm after each layer; the published networks have none.
    """

    def __init__(self, in_channels: int, side: int, width: int, classes: int, norm: Norm = nn.Identity) -> None:
        super().__init__()
        self.side = side
        self.fc1 = nn.Linear(in_channels * side * side, width)
        self.norm1 = norm(width)
        self.fc2 = nn.Linear(width, width)
        self.norm2 = norm(width)
        self.logits = nn.Linear(width, classes)
        self.deltas = nn.Linear(width, 4 * classes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, S, S) -> logits (R, classes), 0 = background, and deltas (R, 4 classes)."""
        hidden = F.relu_(self.norm1(self.fc1(pooled.flatten(1))))
        hidden = F.relu_(self.norm2(self.fc2(hidden)))
        return self.logits(hidden), self.deltas(hidden)


class MaskHead(nn.Module):
    """Convolutions, then a transposed convolution that doubles the sides: a mask for each class.

    Args:
        in_channels: channels of the pyramid.
        side: rows and columns of a pooled region, S; a mask has twice as many.
        width: channels of each convolution.
        depth: how many convolutions there are.
        classes: number of classes, background included (its mask is unused).
        norm: makes the norm after each convolution; the published networks have none.
    """

    def __init__(
        self, in_channels: int, side: int, width: int, depth: int, classes: int, norm: Norm = nn.Identity
    ) -> None:
        super().__init__()
        self.side = side
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += normed(Convolution(width if i else in_channels, width, 3), norm(width))
        self.layers = nn.Sequential(*layers)
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.logits = Convolution(width, classes, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, C, S, S) -> logits (R, classes, 2 S, 2 S)."""
        return self.logits(F.relu_(self.upsample(self.layers(pooled))))  # type: ignore[no-any-return]

    def of_class(self, pooled: Tensor, classes: Tensor) -> Tensor:
        """Mask logits of each region's class, float32: (R, C, S, S), (R,) -> (R, 2 S, 2 S)."""
        logits = self.forward(pooled)
        return logits[torch.arange(len(classes), device=classes.device), classes].float()


class Candidates(nn.Module):
    """Chooses detections among the boxes and scores that the box head predicts.

    Args:
        score_threshold: a class score above it is a detection for instance segmentation.
        panoptic_threshold: a class score above it is a detection for the panoptic head.
        nms_threshold: a box is suppressed by a better one if their IoU is above this.
        limit: how many detections of an image are kept.
    """

    def __init__(self, score_threshold: float, panoptic_threshold: float, nms_threshold: float, limit: int) -> None:
        super().__init__()
        self.score_threshold = score_threshold
        self.panoptic_threshold = panoptic_threshold
        self.nms_threshold = nms_threshold
        self.limit = limit
        self.box_weights = box_ops.BOX_WEIGHTS

    def decode(self, proposals: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
        """The box of each class, clipped to an image of this height and width: (P, 4), (P, 4 C) -> (P, C, 4)."""
        boxes = box_ops.decode(proposals, deltas.float(), self.box_weights)
        return box_ops.clip(boxes.view(len(proposals), -1, 4), size[0], size[1])

    def panoptic(self, boxes: Tensor, scores: Tensor) -> PaddedDetections:
        """Detections for the panoptic head, of a batch at once: suppression over all classes together (quirk Q11).

        With a `panoptic_threshold` below 0.5 a proposal can be a detection of several classes, so the P best pairs of
        proposal and class compete.

        Args:
            boxes: (N, P, C, 4).
            scores: (N, P, C), after the softmax; 0 in padding rows.

        Returns:
            The detections of each image. Where no score is above the threshold: one placeholder of class 0, score 1
            and box (0, 0, 0, 0) (quirk Q5).
        """
        things = scores.size(2) - 1
        likely = torch.where(scores[:, :, 1:] > self.panoptic_threshold, scores[:, :, 1:], -1.0).flatten(1)
        found, order = box_ops.top_scores(likely, scores.size(1))
        row = torch.div(order, things, rounding_mode="floor")
        classes = order % things + 1
        boxes = box_ops.gather_rows(boxes.flatten(1, 2), row * (things + 1) + classes)
        kept = box_ops.batched_nms(boxes, self.nms_threshold)
        found, order = box_ops.top_scores(torch.where(kept, found, -1.0), found.size(1))
        boxes, classes = box_ops.gather_rows(boxes, order), classes.gather(1, order)
        last = min(self.limit, found.size(1)) - 1
        counts = ((found >= 0) & (found >= found[:, last:][:, :1])).sum(1)  # equal scores may pass the limit together
        none = counts == 0
        placeholder = torch.cat([none[:, None], torch.zeros_like(kept[:, 1:])], dim=1)
        return PaddedDetections(
            boxes.masked_fill(placeholder[..., None], 0.0),
            found.masked_fill(placeholder, 1.0),
            classes.masked_fill(placeholder, 0),
            counts + none.long(),
        )

    def instances(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detections of one image for instance segmentation: suppression within each class.

        Args:
            boxes: (P, C, 4).
            scores: (P, C), after the softmax.

        Returns:
            boxes (n, 4), scores (n,), classes (n,), by class, then by descending score; empty where there are none.
        """
        rows: list[Tensor] = []
        classes: list[Tensor] = []
        for c in range(1, scores.size(1)):
            found = torch.where(scores[:, c] > self.score_threshold)[0]
            found = found[box_ops.nms(boxes[found, c], scores[found, c], self.nms_threshold)]
            rows.append(found)
            classes.append(torch.full_like(found, c))
        row, kind = torch.cat(rows), torch.cat(classes)
        boxes, scores = boxes[row, kind], scores[row, kind]
        if len(scores) > self.limit:
            lowest = scores.topk(self.limit)[0][self.limit - 1]
            best = torch.where(scores >= lowest)[0]  # equal scores may pass the limit together
            boxes, scores, kind = boxes[best], scores[best], kind[best]
        return boxes, scores, kind

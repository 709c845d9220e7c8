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
    owners: list[float] = []
    for i, b in enumerate(boxes):
        owners += [float(i)] * len(b)
    return pool_regions(pyramid, torch.cat([ops.numbers(owners, every)[:, None], every], dim=1), size, canonical_side)


def pool_regions(pyramid: Pyramid, regions: Tensor, size: int, canonical_side: float) -> Tensor:
    """As `pool`, for regions (R, 5) of image, x1, y1, x2, y2."""
    levels = pyramid_levels(regions[:, 1:], canonical_side)
    return ops.roi_align([pyramid.p2, pyramid.p3, pyramid.p4, pyramid.p5], regions, levels, size)


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
        pixels = pooled.permute(0, 2, 3, 1).flatten(1)  # as they lie: moving the weights is less than moving these
        weight = self.fc1.weight.view(len(self.fc1.weight), -1, self.side, self.side).permute(0, 2, 3, 1).flatten(1)
        hidden = F.relu_(self.norm1(F.linear(pixels, weight, self.fc1.bias)))
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
        """Mask logits of each region's class, float32: (R, C, S, S), (R,) -> (R, 2 S, 2 S).

        The masks of the other classes are not drawn. The transposed convolution is a matrix product, whose four results
        for a position are put in their places only when a single channel is left.
        """
        hidden, width, side = self.layers(pooled), self.logits.in_channels, self.side
        corners = self.upsample.weight.permute(2, 3, 1, 0).reshape(4 * width, -1, 1, 1)
        bias = self.upsample.bias
        assert bias is not None
        drawn = ops.convolution(hidden, corners, bias.repeat(4), None, True, 1)
        pixels = drawn.permute(0, 2, 3, 1).reshape(len(classes), 4 * side * side, width)
        weight, bias = self.logits.weight, self.logits.bias
        assert bias is not None
        logits = torch.baddbmm(bias[classes][:, None, None], pixels, weight.flatten(1)[classes][:, :, None])
        spread = logits.view(len(classes), side, side, 2, 2).transpose(2, 3)
        return spread.reshape(len(classes), 2 * side, 2 * side).float()


class Candidates(nn.Module):
    """Chooses detections among the boxes and scores that the box head predicts.

    Args:
        score_threshold: a class score above it is a detection for instance segmentation.
        panoptic_threshold: a class score above it is a detection for the panoptic head.
        nms_threshold: a box is suppressed by a better one if their IoU is above this.
        limit: how many detections of an image are kept, and those whose score equals the last one's.
        room: how many instances the panoptic map has values for, whatever their scores.
    """

    def __init__(
        self, score_threshold: float, panoptic_threshold: float, nms_threshold: float, limit: int, room: int = 254
    ) -> None:
        super().__init__()
        self.score_threshold = score_threshold
        self.panoptic_threshold = panoptic_threshold
        self.nms_threshold = nms_threshold
        self.limit = limit
        self.room = room
        self.box_weights = box_ops.BOX_WEIGHTS

    def decode(self, proposals: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
        """The box of each class, inside the limits (N, 4) of its image: (N, P, 4), (N P, 4 C) -> (N, P, C, 4)."""
        boxes = box_ops.decode(proposals.flatten(0, 1), deltas.float(), self.box_weights)
        return box_ops.clip(boxes.view(proposals.size(0), proposals.size(1), -1, 4), limits[:, None, None])

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
        counts = counts.clamp(max=self.room)
        none = counts == 0
        placeholder = torch.cat([none[:, None], torch.zeros_like(kept[:, 1:])], dim=1)
        counts, classes = counts + none.long(), classes.masked_fill(placeholder, 0)
        real = torch.arange(classes.size(1), device=classes.device) < counts[:, None]
        frequency = found.new_zeros((len(found), things + 1)).scatter_add(1, classes, real.to(found.dtype))
        return PaddedDetections(
            boxes.masked_fill(placeholder[..., None], 0.0),
            found.masked_fill(placeholder, 1.0),
            classes,
            counts,
            frequency.amax(1).long(),
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

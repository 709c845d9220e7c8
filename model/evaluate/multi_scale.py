"""Multi-scale testing with flips: one answer from several views of an image, for evaluation.

The paper reports PQ 61.8 on Cityscapes with it; how the authors merge their scales is not public. Here, each view is
the image at some scale, mirrored or not, and the frame is the image at the archive's own test scale:

- The semantic logits of all views are resampled to the frame's grid at stride 4 and averaged.
- The boxes and class scores of all views are scaled to the frame, and compete in the usual suppression.
- The mask logits of a detection are the mean over the views; each view pools them from its own pyramid.

A single view at the archive's own scale gives exactly what the network gives.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from model import archive, ops
from model.checkpoint import Checkpoint
from model.interface.categories import Labels
from model.interface.panoptic import Pixels
from model.network import boxes as box_ops
from model.network.images import ImageTransform
from model.network.instance_head import pool
from model.network.rpn import drop_padding
from model.network.segments import unpack
from model.network.structures import Analysis as Found
from model.network.structures import Batch, Detections, Pyramid
from model.network.upsnet import UPSNet
from model.predictor import DTYPES, Analysis, choose_device, choose_precision, to_analysis, to_tensor


class View(NamedTuple):
    """What the network computes from an image at one scale, mirrored or not.

    Attributes:
        mirrored: whether the image is mirrored left to right.
        scale: factor from the original image to the view.
        pyramid: features of the view.
        logits: (S, h, w) semantic logits at stride 4.
        boxes: (P, C, 4) box of each proposal and class, xyxy in pixels of the view.
        scores: (P, C) class scores of each proposal.
    """

    mirrored: bool
    scale: float
    pyramid: Pyramid
    logits: Tensor
    boxes: Tensor
    scores: Tensor


class MultiScale:
    """A network that merges what it finds in several views of an image.

    Args:
        network: the network, in eval mode.
        categories: the classes that it tells apart.
        short_sides: short sides of the views, pixels; none for the network's own test scale alone.
        flip: whether each view is used mirrored too.
    """

    def __init__(self, network: UPSNet, categories: Labels, short_sides: Sequence[int], flip: bool) -> None:
        self.network = network
        self.categories = categories
        own = network.transform
        mean, std = own.mean.flatten().tolist(), own.std.flatten().tolist()
        sides = short_sides or [own.short_side]
        long_sides = [round(own.long_side * side / own.short_side) for side in sides]
        transforms = [
            ImageTransform(mean, std, *pair).to(own.mean.device) for pair in zip(sides, long_sides, strict=True)
        ]
        self.views = [
            (transform, mirrored) for transform in transforms for mirrored in ([False, True] if flip else [False])
        ]

    @classmethod
    def of_archive(
        cls, path: Path, device: str, short_sides: Sequence[int], flip: bool, precision: str = "auto"
    ) -> "MultiScale":
        """The network of an archive, rebuilt from its weights; device and precision as in `Predictor`.

        Raises:
            archive.ArchiveError: there is no usable archive at the path, or a CPU is to compute in float16.
        """
        device = choose_device(device)
        dtype = DTYPES[choose_precision(precision, device)]
        checkpoint = Checkpoint.of_archive(path)
        network = checkpoint.build().to(device)
        archive.cast_weights(network, dtype)
        return cls(network, checkpoint.categories, short_sides, flip)

    def analyze(self, images: Sequence[Pixels]) -> list[Analysis]:
        """Everything found in each image."""
        device = self.network.transform.mean.device
        with torch.inference_mode():
            return [to_analysis(self.merge_views(to_tensor(image, device)), self.categories) for image in images]

    def merge_views(self, image: Tensor) -> Found:
        """Everything found in one (3, H, W) image."""
        network, width = self.network, image.size(2)
        frame = network.transform([image])
        scale = frame.scales[0]
        views = [self.run_view(image, transform, mirrored) for transform, mirrored in self.views]
        logits = torch.stack([logits_in_frame(view, frame, width) for view in views]).mean(0)
        boxes = torch.cat([boxes_in_frame(view, frame, width) for view in views])
        scores = torch.cat([view.scores for view in views])
        chosen = network.candidates.panoptic(boxes[None], scores[None])
        count = int(chosen.counts[0])
        best = (chosen.boxes[0, :count], chosen.scores[0, :count], chosen.classes[0, :count])
        panoptic = self.draw_masks(views, best, scale, width)
        things = self.draw_masks(views, network.candidates.instances(boxes, scores), scale, width)
        decision = network.panoptic_head(logits[None], [panoptic])
        packed = network.segments(decision, logits[None], [panoptic], frame)
        return Found(
            unpack(packed, frame.original_sizes)[0],
            ops.to_original(decision.semantic[0], frame.sizes[0], scale, frame.original_sizes[0]),
            things.boxes / scale,
            things.scores,
            things.classes,
            things.mask_logits,
        )

    def run_view(self, image: Tensor, transform: ImageTransform, mirrored: bool) -> View:
        """Run the network on one view, up to its heads."""
        network = self.network
        batch = transform([image.flip(2) if mirrored else image], network.dtype())
        pyramid = network.features(batch.pixels)
        proposals = drop_padding(network.rpn(pyramid, batch.limits)[0]).boxes
        logits, deltas = network.box_head(pool(pyramid, [proposals], network.box_head.side, network.canonical_side))
        boxes = network.candidates.decode(proposals[None], deltas, batch.limits)[0]
        semantic = network.semantic_head(pyramid).float()[0]
        scores = logits.float().softmax(1)
        return View(mirrored, batch.scales[0], pyramid, semantic, boxes, scores)

    def draw_masks(
        self, views: list[View], chosen: tuple[Tensor, Tensor, Tensor], scale: float, width: int
    ) -> Detections:
        """Detections from chosen boxes, scores and classes in the frame, with the mean of the views' masks."""
        boxes, scores, classes = chosen
        mask_head = self.network.mask_head
        masks = []
        for view in views:
            in_view = mirror(boxes, width * scale) if view.mirrored else boxes
            in_view = in_view if view.scale == scale else in_view * (view.scale / scale)
            pooled = pool(view.pyramid, [in_view], mask_head.side, self.network.canonical_side)
            drawn = mask_head.of_class(pooled, classes)
            masks.append(drawn.flip(2) if view.mirrored else drawn)
        return Detections(boxes, scores, classes, torch.stack(masks).mean(0), len(classes))


def mirror(boxes: Tensor, width: float) -> Tensor:
    """Boxes (..., 4), xyxy with inclusive ends, mirrored left to right in an image of this width."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - 1 - x2, y1, width - 1 - x1, y2], -1)


def boxes_in_frame(view: View, frame: Batch, width: int) -> Tensor:
    """A view's boxes in pixels of the frame, for an image of this width.

    The sides of a view are rounded, so a box can end a little outside the frame: it is clipped.
    """
    boxes = mirror(view.boxes, width * view.scale) if view.mirrored else view.boxes
    scale = frame.scales[0]
    boxes = boxes if view.scale == scale else boxes * (scale / view.scale)
    return box_ops.clip(boxes, frame.limits[0])


def logits_in_frame(view: View, frame: Batch, width: int) -> Tensor:
    """A view's semantic logits at the centres of the frame's grid at stride 4, interpolated bilinearly."""
    rows = torch.arange(frame.pixels.size(2) // 4, dtype=torch.float64, device=view.logits.device) + 0.5
    columns = torch.arange(frame.pixels.size(3) // 4, dtype=torch.float64, device=view.logits.device) + 0.5
    ratio = view.scale / frame.scales[0]
    if view.mirrored:
        columns = width * frame.scales[0] / 4 - columns
    return interpolate(interpolate(view.logits, rows * ratio - 0.5, 1), columns * ratio - 0.5, 2)


def interpolate(logits: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Linear interpolation along one dimension at fractional positions, clamped at the ends."""
    positions = positions.clamp(0, logits.size(dim) - 1)
    low = positions.floor().long()
    high = (low + 1).clamp(max=logits.size(dim) - 1)
    shape = [1] * logits.dim()
    shape[dim] = len(positions)
    weight = (positions - low).to(logits.dtype).view(shape)
    return logits.index_select(dim, low) * (1 - weight) + logits.index_select(dim, high) * weight

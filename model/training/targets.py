"""The answers that the heads learn: labels and deltas of anchors and regions, masks, and panoptic channels."""

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from model.network import boxes as box_ops

ANCHORS_SAMPLED = 256
IGNORE = -1
ON_OBJECT = 0.5  # IoU from which a region is on an object


class Regions(NamedTuple):
    """Regions that the box head is trained on, those on objects first.

    Attributes:
        boxes: (R, 4) xyxy in pixels of the resized photo.
        labels: (R,) class 1..T, 0 = background.
        deltas: (F, 4) moves of the regions on objects, in original pixels, times `BOX_WEIGHTS`.
    """

    boxes: Tensor
    labels: Tensor
    deltas: Tensor


def prelabel_anchors(anchors: Tensor, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Labels of all anchors, from which `sample_anchors` draws.

    An anchor is on an object if their IoU is at least 0.7, or if no anchor has a larger IoU with that object. It may be
    background if its IoU with every object is below 0.3. An object that no anchor overlaps gets no anchor (quirk Q17 is
    not kept).

    Args:
        anchors: (A, 4) xyxy in pixels of the resized photo.
        boxes: (G, 4) boxes of the objects, likewise.
        size: height and width of the resized photo.

    Returns:
        (A,) 1 object, 0 background candidate, -1 neither, -2 not inside the photo; and (A,) the nearest object.
    """
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] < size[1]) & (anchors[:, 3] < size[0])
    labels = anchors.new_full((len(anchors),), -2, dtype=torch.int64)
    nearest = torch.zeros_like(labels)
    if len(boxes) == 0:
        labels[inside] = 0
        return labels, nearest
    overlaps = box_ops.iou(anchors[inside], boxes)
    if len(overlaps) == 0:
        return labels, nearest
    best, which = overlaps.max(1)
    best_of_object = overlaps.max(0)[0]
    chosen = ((overlaps == best_of_object) & (best_of_object > 0)).any(1) | (best >= 0.7)
    labels[inside] = torch.where(chosen, 1, torch.where(best < 0.3, 0, IGNORE))
    nearest[inside] = which
    return labels, nearest


def sample_anchors(labels: Tensor) -> Tensor:
    """(A,) labels of 256 anchors, at most 128 of them on objects; -1 for the others (quirk Q17 is not kept)."""
    sampled = torch.full_like(labels, IGNORE)
    objects = draw(torch.where(labels == 1)[0], ANCHORS_SAMPLED // 2)
    background = draw(torch.where(labels == 0)[0], ANCHORS_SAMPLED - len(objects))
    sampled[objects] = 1
    sampled[background] = 0
    return sampled


def anchor_deltas(anchors: Tensor, boxes: Tensor, labels: Tensor, nearest: Tensor) -> Tensor:
    """(F, 4) deltas from the anchors labelled 1 to their objects."""
    chosen = torch.where(labels == 1)[0]
    if len(chosen) == 0:
        return anchors.new_zeros((0, 4))
    return box_ops.encode(anchors[chosen], boxes[nearest[chosen]], box_ops.PROPOSAL_WEIGHTS)


def draw(indices: Tensor, count: int) -> Tensor:
    """At most `count` of the indices, without replacement. The host draws, so every device gets the same ones."""
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]


def classes_of_nothing(regions: Tensor) -> Tensor:
    """(R,) zeros: background."""
    return regions.new_zeros(len(regions), dtype=torch.int64)


def choose_regions(overlaps: Tensor, count: int) -> Tensor:
    """Indices of the regions to train on: those on objects first, a quarter at most, then background.

    Args:
        overlaps: (P,) largest IoU of each candidate with an object.
        count: how many regions to choose; there may be fewer.
    """
    on_object = draw(torch.where(overlaps >= ON_OBJECT)[0], count // 4)
    background = draw(torch.where(overlaps < ON_OBJECT)[0], count - len(on_object))
    return torch.cat([on_object, background])


def match_regions(regions: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """(R, 4), (G, 4) -> (R,) largest IoU of each region with an object, and (R,) its index; zeros without objects."""
    if len(objects) == 0:
        return regions.new_zeros(len(regions)), classes_of_nothing(regions)
    best, which = box_ops.iou(regions, objects).max(1)
    return best, which


def describe_regions(regions: Tensor, objects: Tensor, classes: Tensor, scale: float) -> Regions:
    """Labels and deltas of chosen regions.

    Args:
        regions: (R, 4) in original pixels.
        objects: (G, 4) in original pixels; crowds are among them if a region on a crowd takes its class (quirk Q19).
        classes: (G,) class of each object, 1..T.
        scale: factor from the original to the resized photo.
    """
    best, which = match_regions(regions, objects)
    on_object = best >= ON_OBJECT
    labels = classes_of_nothing(regions)
    labels[on_object] = classes[which[on_object]]
    deltas = box_ops.encode(regions[on_object], objects[which[on_object]], box_ops.BOX_WEIGHTS)
    return Regions(regions * scale, labels, deltas)


def covered_share(boxes: Tensor, mask: Tensor) -> Tensor:
    """(P,) the share of each box that a mask covers.

    Sums of a mask over rectangles are differences of its running sums, which between pixels are linear.

    Args:
        boxes: (P, 4) in pixels of the mask, inside it.
        mask: (H, W) bool.
    """
    sums = torch.nn.functional.pad(mask.to(torch.float64).cumsum(0).cumsum(1), (1, 0, 1, 0))
    left, top, right, bottom = (boxes.double() + boxes.new_tensor([0, 0, 1, 1])).T

    def until(y: Tensor, x: Tensor) -> Tensor:
        """Covered pixels above and left of points."""
        row, column = y.long().clamp(0, len(mask) - 1), x.long().clamp(0, mask.size(1) - 1)
        below, beside = y - row, x - column
        upper = sums[row, column] * (1 - beside) + sums[row, column + 1] * beside
        lower = sums[row + 1, column] * (1 - beside) + sums[row + 1, column + 1] * beside
        return upper * (1 - below) + lower * below

    covered = until(bottom, right) - until(top, right) - until(bottom, left) + until(top, left)
    share: Tensor = (covered / ((right - left) * (bottom - top))).to(boxes.dtype)
    return share


def rasterise(regions: Tensor, polygons: list[list[list[float]]], scale: float, side: int = 28) -> Tensor:
    """Masks as published: the polygons of the object whose box overlaps the region most, drawn in the region.

    Args:
        regions: (F, 4) in pixels of the resized photo.
        polygons: rings of each object, each x, y, x, y, ... in original pixels.
        scale: factor from the original to the resized photo.
        side: rows and columns of a mask.

    Returns:
        (F, side, side) float, 0 or 1.
    """
    from pycocotools import mask as coder

    scaled = [[regions.new_tensor(ring).view(-1, 2) * scale for ring in rings] for rings in polygons]
    corners = [torch.cat(rings) for rings in scaled]
    boxes = torch.stack([torch.cat([points.amin(0), points.amax(0)]) for points in corners])
    nearest = box_ops.iou(regions, boxes).argmax(1)
    drawn = regions.new_zeros((len(regions), side, side))
    for i, which in enumerate(nearest.tolist()):
        origin = regions[i, :2]
        factor = side / (regions[i, 2:] - origin).clamp(min=1)
        rings = [((ring - origin) * factor).flatten().tolist() for ring in scaled[which]]
        masks = coder.decode(coder.frPyObjects(rings, side, side))
        drawn[i] = torch.from_numpy(masks.max(axis=2)).to(drawn)
    return drawn


def mask_targets(regions: Tensor, boxes: Tensor, masks: Tensor, side: int = 28) -> Tensor:
    """Masks from masks: that of the object whose box overlaps the region most, cut to the region and resized.

    The published networks learned from polygons; a COCO-panoptic folder has masks, which are sampled instead.

    Args:
        regions: (F, 4) in pixels of the masks.
        boxes: (G, 4) boxes of the objects, likewise; G >= 1.
        masks: (G, H, W) bool masks of the objects.
        side: rows and columns of a result.

    Returns:
        (F, side, side) float, 0 or 1.
    """
    nearest = box_ops.iou(regions, boxes).argmax(1)
    corners = torch.cat([regions[:, :2], regions[:, 2:] + 1], dim=1)
    rois = torch.cat([nearest[:, None].float(), corners], dim=1)
    sampled = torchvision.ops.roi_align(masks[:, None].float(), rois, side, 1.0, 2, True)[:, 0]
    drawn: Tensor = (sampled >= 0.5).float()
    return drawn


def quarter(full: Tensor, size: tuple[int, int], fill: int) -> Tensor:
    """(..., H, W) -> (..., H / 4, W / 4): every fourth pixel, and `fill` beyond the photo's size / 4, rounded."""
    small = full[..., ::4, ::4].clone()
    small[..., round(size[0] / 4) :, :] = fill
    small[..., :, round(size[1] / 4) :] = fill
    return small


def panoptic_target(semantic: Tensor, masks: Tensor, kept: Tensor, size: tuple[int, int], stuff: int) -> Tensor:
    """The channel that should win each pixel at stride 4.

    A stuff pixel keeps its class. A pixel of a kept object gets that object's channel, a later one's where they
    overlap. The pixels of all other things get the void channel: the network learns to say that it does not know (Xiong
    et al. 2019, section 3).

    Args:
        semantic: (H, W) semantic index, 255 = ignored.
        masks: (G, H, W) bool masks of all objects.
        kept: (k,) indices of the objects that have a channel, in channel order.
        size: height and width of the resized photo.
        stuff: number of stuff classes, U.

    Returns:
        (H / 4, W / 4) int64, `IGNORE` = ignored: there may be more than 255 channels.
    """
    small = quarter(semantic, size, 255)
    target = torch.where(small < stuff, small, torch.where(small == 255, IGNORE, stuff + len(kept)))
    for channel, mask in enumerate(quarter(masks[kept], size, 0)):
        target[mask] = stuff + channel
    return target


def panoptic_logits(semantic_logits: Tensor, boxes: Tensor, classes: Tensor, masks: Tensor, stuff: int) -> Tensor:
    """The channels of the panoptic head at stride 4, differentiable: no object is removed.

    Args:
        semantic_logits: (S, h, w) at stride 4.
        boxes: (k, 4) in pixels of the resized photo.
        classes: (k,) class of each box, 1..T.
        masks: (k, 28, 28) mask logits of each box.
        stuff: number of stuff classes, U.

    Returns:
        (U + k + 1, h, w): stuff, objects, void.
    """
    height, width = semantic_logits.shape[1:]
    channels, planes = [], []
    for box, kind, logits in zip(boxes / 4, classes.tolist(), masks, strict=True):
        y1, x1, y2, x2 = box_ops.semantic_window(box)
        inside = torch.zeros((height, width), dtype=torch.bool, device=semantic_logits.device)
        inside[y1:y2, x1:x2] = True
        plane = semantic_logits[stuff - 1 + kind] * inside
        planes.append(plane)
        channels.append(plane + paste(logits, box, height, width))
    things = semantic_logits[stuff:].amax(0)
    void = things - torch.stack(planes).amax(0) if planes else things
    return torch.cat([semantic_logits[:stuff], *[c[None] for c in channels], void[None]])


def paste(logits: Tensor, box: Tensor, height: int, width: int) -> Tensor:
    """(height, width) zeros with (28, 28) logits drawn into the box."""
    x1, y1, x2, y2 = (int(v) for v in box.tolist())
    size = [max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)]
    drawn = torch.nn.functional.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    drawn = drawn[: max(height - y1, 0), : max(width - x1, 0)]
    edges = (x1, width - x1 - drawn.size(1), y1, height - y1 - drawn.size(0))
    return torch.nn.functional.pad(drawn, edges)

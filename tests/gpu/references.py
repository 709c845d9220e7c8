"""What the kernels compute, in float64 and in plain tensor code, on the CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import plain
from model.network.structures import Detections


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 3 x 3 deformable convolution of (N, C, H, W); positions that are not numbers count as outside."""
    height, width = features.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    out = torch.zeros(len(features), len(weight), height, width, dtype=torch.float64)
    table = features.double().flatten(2)
    for tap in range(9):
        y = rows + tap // 3 - 1 + offsets[:, 2 * tap].double()
        x = columns + tap % 3 - 1 + offsets[:, 2 * tap + 1].double()
        near = (y > -1) & (y < height) & (x > -1) & (x < width)
        y, x = y.where(near, y.new_tensor(-9)), x.where(near, x.new_tensor(-9))
        sampled = torch.zeros(*features.shape, dtype=torch.float64)
        for v in (y.floor(), y.floor() + 1):
            for u in (x.floor(), x.floor() + 1):
                share = (1 - (y - v).abs()) * (1 - (x - u).abs())
                inside = (v >= 0) & (v < height) & (u >= 0) & (u < width)
                places = (v.clamp(0, height - 1) * width + u.clamp(0, width - 1)).long().flatten(1)
                corner = table.gather(2, places[:, None].expand(-1, features.size(1), -1)).view_as(sampled)
                sampled += corner * (share * inside)[:, None]
        out += torch.einsum("nchw,oc->nohw", sampled, weight[:, :, tap // 3, tap % 3].double())
    return out if bias is None else out + bias.double()[:, None, None]


def nms(boxes: Tensor, threshold: float) -> Tensor:
    """Which boxes (G, K, 4) stay: those that overlap no better one of their group that stays by more."""
    keep = torch.zeros(boxes.shape[:2], dtype=torch.bool)
    for group, kept in zip(boxes.double(), keep, strict=True):
        near = torch.maximum(group[:, None, :2], group[None, :, :2])
        far = torch.minimum(group[:, None, 2:], group[None, :, 2:])
        shared = (far - near).clamp(min=0).prod(2)
        areas = (group[:, 2:] - group[:, :2]).prod(1)
        united = areas[:, None] + areas[None] - shared
        overlaps = torch.where(united > 0, shared / united, 0) > threshold
        for i in range(len(group)):
            kept[i] = not bool((overlaps[i, :i] & kept[:i]).any())
    return keep


def roi_align(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """(R, C, size, size): the mean of two by two samples in each bin, from the level of each region."""
    out = torch.zeros(len(rois), features[0].size(1), size, size, dtype=torch.float64)
    for r, (image, *box) in enumerate(rois.double().tolist()):
        level = features[int(levels[r])][int(image)].double()
        left, top, right, bottom = (side * 0.25 / 2 ** int(levels[r]) for side in box)
        down = _axis(top, bottom, size, level.size(1))
        across = _axis(left, right, size, level.size(2))
        out[r] = F.avg_pool2d(down @ level @ across.T, 2)
    return out


def _axis(start: float, stop: float, size: int, length: int) -> Tensor:
    """(2 size, length): the share of each row of a plane in each sample."""
    places = start + max(stop - start, 1.0) / size * (torch.arange(2 * size, dtype=torch.float64) + 0.5) / 2
    inside = (places >= -1) & (places <= length)
    places = places.clamp(0, length - 1)
    return (1 - (places[:, None] - torch.arange(length)).abs()).clamp(min=0) * inside[:, None]


def panoptic(logits: Tensor, found: Detections, stuff: int, overlap: float) -> tuple[Tensor, Tensor, list[int]]:
    """Channel and semantic class of each pixel of an image, and the indices of the candidates that stay.

    Masks are drawn in float32, because which ones stay depends on counts of pixels above zero; the rest is float64.
    """
    full = F.interpolate(logits[None].double(), scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    channels, kept = plain.panoptic_logits(full, stuff, found.boxes, found.mask_logits, found.classes, overlap)
    return plain.panoptic_map(channels), full.argmax(0).byte(), kept

"""The panoptic head written plainly, every logit at full size, and the convolutions of torch and torchvision.

The reference of tests and benchmark, never served.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.convolution import Conv3x3
from model.network.deformable import DeformableConv
from model.network.panoptic_head import mask_window, semantic_window
from model.network.structures import Detections, PanopticLogits
from model.network.upsnet import UPSNet
from model.ops import deform_conv2d_torchvision


def remove_masks(
    boxes: Tensor, mask_logits: Tensor, classes: Tensor, height: int, width: int
) -> tuple[list[int], Tensor]:
    """Drop candidates whose mask is empty or mostly taken by better ones of the same class (quirk Q10).

    Args:
        boxes: (n, 4) by descending score.
        mask_logits: (n, 28, 28).
        classes: (n,).
        height: of the canvas.
        width: of the canvas.

    Returns:
        Indices kept, and their mask planes (k, height, width), 0 outside the boxes. Nothing kept: index 0 with a plane
        of zeros (quirk Q6).
    """
    canvases: dict[int, Tensor] = {}
    keep: list[int] = []
    planes: list[Tensor] = []
    for i in range(len(boxes)):
        if classes[i] == 0:  # the placeholder has no mask (quirk Q5)
            continue
        y1, x1, rows, columns = mask_window(boxes[i])
        resized = F.interpolate(mask_logits[i][None, None], (rows, columns), mode="bilinear", align_corners=False)[0, 0]
        plane = mask_logits.new_zeros((height, width))
        area = plane[y1 : y1 + rows, x1 : x1 + columns]
        area.copy_(resized[: area.size(0), : area.size(1)])
        mask = plane > 0
        canvas = canvases.setdefault(int(classes[i]), torch.zeros_like(mask))
        taken = int((mask & canvas).sum())
        if int(mask.sum()) == 0 or taken / int(mask.sum()) > 0.3:
            continue
        canvas |= mask
        keep.append(i)
        planes.append(plane)
    if not keep:
        return [0], mask_logits.new_zeros((1, height, width))
    return keep, torch.stack(planes)


def panoptic_logits(
    semantic_logits: Tensor, stuff: int, boxes: Tensor, mask_logits: Tensor, classes: Tensor
) -> tuple[Tensor, list[int]]:
    """All channels of the panoptic head (Xiong et al. 2019, section 3.2).

    Args:
        semantic_logits: (S, H, W) at full size.
        stuff: U.
        boxes: (n, 4) candidates by descending score.
        mask_logits: (n, 28, 28).
        classes: (n,) 1..T, or 0 for the placeholder.

    Returns:
        (U + k + 1, H, W): stuff, kept instances, void; and the k indices kept.
    """
    height, width = semantic_logits.shape[1:]
    keep, masks = remove_masks(boxes, mask_logits, classes, height, width)
    planes = semantic_logits.new_zeros((len(keep), height, width))
    for plane, i in zip(planes, keep, strict=True):
        if classes[i] > 0:
            y1, x1, y2, x2 = semantic_window(boxes[i])
            plane[y1:y2, x1:x2] = semantic_logits[stuff - 1 + classes[i], y1:y2, x1:x2]
    void = semantic_logits[stuff:].amax(0) - planes.amax(0)  # quirk Q9: planes without the mask logits
    return torch.cat([semantic_logits[:stuff], planes + masks, void[None]]), keep


def panoptic_map(logits: Tensor) -> Tensor:
    """(U + k + 1, H, W) -> (H, W) uint8 channel, void 255."""
    winner = logits.argmax(0)
    return torch.where(winner == logits.size(0) - 1, 255, winner).byte()


def unify(semantic: Tensor, panoptic: Tensor, classes: Tensor, stuff: int, stuff_area_limit: int) -> Tensor:
    """The official merge of semantic and panoptic maps (SPEC 14), quirk Q5 included.

    Args:
        semantic: (H, W) uint8 semantic argmax at the original size.
        panoptic: (H, W) uint8 panoptic map at the original size.
        classes: (k,) detection class of each instance.
        stuff: U.
        stuff_area_limit: stuff with fewer pixels becomes void.

    Returns:
        (H, W, 2) uint8: semantic index (255 = void) and instance number (0 = none).
    """
    category = panoptic.clone()
    instance = torch.where(panoptic < stuff, 0, panoptic)
    ids = [int(v) for v in panoptic.unique() if v >= stuff]
    for k, value in enumerate(ids):
        region = panoptic == value
        if value == 255:
            instance[region] = 0
            continue
        counts = torch.bincount(semantic[region].long(), minlength=256)
        majority = int(counts.argmax())
        wanted = stuff - 1 + int(classes[value - stuff])
        turns = majority != wanted and counts[majority] / counts.sum() >= 0.5 and majority < stuff  # quirk Q14
        category[region] = majority if turns else wanted
        instance[region] = 0 if turns else k + 1
    for value in range(stuff):
        region = category == value
        if int(region.sum()) < stuff_area_limit:  # quirk Q15
            category[region] = 255
    return torch.stack([category, instance], dim=-1)


class PlainPanopticHead(nn.Module):
    """`PanopticHead` by way of all logits at full size."""

    def __init__(self, stuff: int) -> None:
        super().__init__()
        self.stuff = stuff

    def batch(self, semantic_logits: Tensor, detections: list[Detections]) -> list[PanopticLogits]:
        """The decision for each image."""
        heads = []
        for logits, found in zip(semantic_logits, detections, strict=True):
            heads.append(self(logits, found.boxes, found.mask_logits, found.classes))
        return heads

    def forward(self, semantic_logits: Tensor, boxes: Tensor, mask_logits: Tensor, classes: Tensor) -> PanopticLogits:
        """The decision for one image; arguments as of `PanopticHead`."""
        full = F.interpolate(semantic_logits[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
        logits, keep = panoptic_logits(full, self.stuff, boxes, mask_logits, classes)
        return PanopticLogits(panoptic_map(logits), full.argmax(0).byte(), torch.tensor(keep, device=full.device))


class PlainDeformableConv(nn.Module):
    """A `DeformableConv` with torchvision's operator."""

    def __init__(self, conv: DeformableConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        limit = self.conv.offset_limit
        offsets = self.conv.offset(features).clamp(-limit, limit)
        return deform_conv2d_torchvision(features, offsets, self.conv.weight, self.conv.bias)


def plain_conv(conv: Conv3x3) -> nn.Conv2d:
    """The same convolution, always as torch does it."""
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain


def plainly(network: UPSNet) -> UPSNet:
    """A copy of the network, same weights, that takes the plain way everywhere."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DeformableConv):
                setattr(module, name, PlainDeformableConv(child))
            elif isinstance(child, Conv3x3):
                setattr(module, name, plain_conv(child))
    network.panoptic_head = PlainPanopticHead(network.panoptic_head.stuff)  # type: ignore[assignment]
    return network

"""The panoptic head written plainly, every logit at full size, every mask, the convolutions of torch and torchvision.

Tests and benchmark compare the network with it; it is never served.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.kernels.plain import convolution_torch, deform_conv2d_torchvision
from model.network.boxes import mask_window, semantic_window
from model.network.convolution import Convolution
from model.network.deformable import DeformableConv
from model.network.instance_head import MaskHead
from model.network.structures import Detections, PanopticDecision
from model.network.upsnet import UPSNet


def prune_masks(
    boxes: Tensor, mask_logits: Tensor, classes: Tensor, overlap: float, height: int, width: int
) -> tuple[list[int], Tensor]:
    """Drop candidates whose mask is empty or mostly taken by better ones of the same class (quirk Q10).

    Args:
        boxes: (n, 4) by descending score.
        mask_logits: (n, 28, 28).
        classes: (n,).
        overlap: share of its mask that a candidate may lose.
        height: rows of the canvas.
        width: columns of the canvas.

    Returns:
        Indices of the kept candidates, and their mask planes (k, height, width), 0 outside the boxes. Nothing kept:
        index 0 with a plane of zeros (quirk Q6).
    """
    canvases: dict[int, Tensor] = {}
    kept: list[int] = []
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
        if int(mask.sum()) == 0 or taken / int(mask.sum()) > overlap:
            continue
        canvas |= mask
        kept.append(i)
        planes.append(plane)
    if not kept:
        return [0], mask_logits.new_zeros((1, height, width))
    return kept, torch.stack(planes)


def panoptic_logits(
    semantic_logits: Tensor, stuff: int, boxes: Tensor, mask_logits: Tensor, classes: Tensor, overlap: float
) -> tuple[Tensor, list[int]]:
    """All channels of the panoptic head (Xiong et al. 2019, section 3).

    Args:
        semantic_logits: (S, H, W) at full size.
        stuff: number of stuff classes (U).
        boxes: (n, 4) candidates by descending score.
        mask_logits: (n, 28, 28).
        classes: (n,) 1..T, or 0 for the placeholder.
        overlap: share of its mask that a candidate may lose.

    Returns:
        (U + k + 1, H, W): stuff, kept instances, void; and the indices of the k kept candidates.
    """
    height, width = semantic_logits.shape[1:]
    kept, masks = prune_masks(boxes, mask_logits, classes, overlap, height, width)
    planes = semantic_logits.new_zeros((len(kept), height, width))
    for plane, i in zip(planes, kept, strict=True):
        if classes[i] > 0:
            y1, x1, y2, x2 = semantic_window(boxes[i])
            plane[y1:y2, x1:x2] = semantic_logits[stuff - 1 + classes[i], y1:y2, x1:x2]
    void = semantic_logits[stuff:].amax(0) - planes.amax(0)  # quirk Q9: planes without the mask logits
    return torch.cat([semantic_logits[:stuff], planes + masks, void[None]]), kept


def panoptic_map(logits: Tensor) -> Tensor:
    """(U + k + 1, H, W) -> (H, W) uint8 channel, void 255."""
    winner = logits.argmax(0)
    return torch.where(winner == logits.size(0) - 1, 255, winner).byte()


class PlainPanopticHead(nn.Module):
    """`PanopticHead` by way of all logits at full size.

    Args:
        stuff: number of stuff classes (U).
        overlap: share of its mask that a candidate may lose to better ones of its class.
    """

    def __init__(self, stuff: int, overlap: float) -> None:
        super().__init__()
        self.stuff = stuff
        self.overlap = overlap

    def forward(self, semantic_logits: Tensor, detections: list[Detections]) -> PanopticDecision:
        """As `PanopticHead`, image by image."""
        decided = [self.decide(logits, found) for logits, found in zip(semantic_logits, detections, strict=True)]
        order: list[int] = []
        for each, found in zip(decided, detections, strict=True):
            kept = each.order.tolist()
            order += kept + [k for k in range(len(found.boxes)) if k not in kept]
        channels = torch.stack([each.channels for each in decided])
        semantic = torch.stack([each.semantic for each in decided])
        return PanopticDecision(channels, semantic, torch.tensor(order, device=channels.device))

    def decide(self, semantic_logits: Tensor, found: Detections) -> PanopticDecision:
        """The decision for one image, (H, W) and without the candidates that were dropped, from (S, H / 4, W / 4)."""
        full = F.interpolate(semantic_logits[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
        candidates = found.boxes, found.mask_logits, found.classes
        logits, kept = panoptic_logits(full, self.stuff, *candidates, self.overlap)
        return PanopticDecision(panoptic_map(logits), full.argmax(0).byte(), torch.tensor(kept, device=full.device))


class PlainDeformableConv(nn.Module):
    """A `DeformableConv` with torchvision's operator."""

    def __init__(self, conv: DeformableConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        limit = self.conv.offset_limit
        offsets = self.conv.offset(features).clamp(-limit, limit)
        return deform_conv2d_torchvision(features, offsets, self.conv.weight, self.conv.bias, self.conv.relu)


class PlainConvolution(nn.Module):
    """A `Convolution` with torch's operators."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, features: Tensor, other: Tensor | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride)."""
        conv = self.conv
        return convolution_torch(features, conv.weight, conv.bias, other, conv.relu, conv.step)


class PlainMaskHead(nn.Module):
    """A `MaskHead` that draws the masks of all classes and takes one."""

    def __init__(self, head: MaskHead) -> None:
        super().__init__()
        self.head = head
        self.side = head.side

    def of_class(self, pooled: Tensor, classes: Tensor) -> Tensor:
        """As `MaskHead.of_class`."""
        return self.head(pooled)[torch.arange(len(classes), device=classes.device), classes].float()  # type: ignore[no-any-return]


def plainly(network: UPSNet) -> UPSNet:
    """A copy of the network with the same weights and the plain form of every part."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DeformableConv):
                setattr(module, name, PlainDeformableConv(child))
            elif isinstance(child, Convolution):
                setattr(module, name, PlainConvolution(child))
    network.mask_head = PlainMaskHead(network.mask_head)  # type: ignore[assignment]
    head = network.panoptic_head
    network.panoptic_head = PlainPanopticHead(head.stuff, head.overlap)  # type: ignore[assignment]
    return network

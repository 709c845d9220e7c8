"""The parameter-free panoptic head (Xiong et al. 2019, section 3.2), without its full-size logits.

The logits of one image at 800 x 1344 with 53 stuff classes and 100 instances would be 0.7 GB. Here the semantic logits
are enlarged in bands of rows, stuff and things are reduced to maxima, and each instance touches its own box only.
`plain.py` is the same arithmetic written plainly; the results are equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import ops as ops  # registers the kernels of a device
from model.network.structures import Detections, PanopticLogits


def mask_window(box: Tensor) -> tuple[int, int, int, int]:
    """Top row, left column, rows and columns of the box's mask: truncated (quirk Q8), at least one pixel."""
    x1, y1, x2, y2 = int(box[0].item()), int(box[1].item()), int(box[2].item()), int(box[3].item())
    return y1, x1, max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)


def semantic_window(box: Tensor) -> tuple[int, int, int, int]:
    """Rows y1:y2 and columns x1:x2 of the box's semantic plane: its far ends rounded (quirk Q8)."""
    x1, y1 = int(box[0].item()), int(box[1].item())
    return y1, x1, int(box[3].round().item() + 1), int(box[2].round().item() + 1)


def upsample_rows(logits: Tensor, start: int, stop: int) -> Tensor:
    """Rows 4 start .. 4 stop of the x4 bilinear enlargement of (S, h, w), exactly as the whole would have them."""
    low, high = max(start - 1, 0), min(stop + 1, logits.size(1))  # one row of context on each side
    band = F.interpolate(logits[None, :, low:high], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    return band[:, 4 * (start - low) : 4 * (stop - low)]


class PanopticHead(nn.Module):
    """Lets stuff, instances and void compete for each pixel.

    Args:
        stuff: U, number of stuff classes.
        overlap: share of its mask that a candidate may lose to better ones of its class.
        band: rows of semantic logits enlarged at a time.
    """

    def __init__(self, stuff: int, overlap: float = 0.3, band: int = 8) -> None:
        super().__init__()
        self.stuff = stuff
        self.overlap = overlap
        self.band = band

    def batch(self, semantic_logits: Tensor, detections: list[Detections]) -> list[PanopticLogits]:
        """Decide every pixel of a batch: (N, S, H / 4, W / 4) logits and the candidates of each image.

        On a device one kernel does, and `keep` ends with the candidates that were removed: no channel is theirs.
        """
        if not torch.ops.upsnet.has_kernels(semantic_logits):
            return [
                self.forward(semantic_logits[i], found.boxes, found.mask_logits, found.classes)
                for i, found in enumerate(detections)
            ]
        boxes = torch.cat([found.boxes for found in detections])
        masks = torch.cat([found.mask_logits for found in detections])
        classes = torch.cat([found.classes for found in detections])
        counts = [len(found.boxes) for found in detections]
        alike = max([found.alike for found in detections])
        segments, semantic, order = torch.ops.upsnet.panoptic(
            semantic_logits, boxes, masks, classes, counts, alike, self.stuff, self.overlap
        )
        keeps = order.split(counts)
        return [PanopticLogits(segments[i], semantic[i], keeps[i]) for i in range(len(counts))]

    def forward(self, semantic_logits: Tensor, boxes: Tensor, mask_logits: Tensor, classes: Tensor) -> PanopticLogits:
        """Decide every pixel of one image.

        Args:
            semantic_logits: (S, H / 4, W / 4) float32.
            boxes: (n, 4) candidates by descending score, n >= 1, xyxy in pixels of the padded image.
            mask_logits: (n, 28, 28) float32, of the candidate's class.
            classes: (n,) int64, 1..T, or 0 for the placeholder (quirk Q5).

        Returns:
            The decision at H x W.
        """
        height, width = 4 * semantic_logits.size(1), 4 * semantic_logits.size(2)
        boxes, classes = boxes.cpu(), classes.cpu()  # window arithmetic needs them on the host
        keep, masks = self.remove_masks(boxes, mask_logits, classes, height, width)
        segments = torch.empty((height, width), dtype=torch.uint8, device=semantic_logits.device)
        semantic = torch.empty_like(segments)
        windows: list[list[int]] = []
        for i in keep:
            y1, x1, y2, x2 = semantic_window(boxes[i])
            windows.append([y1, x1, min(y2, height), min(x2, width), int(classes[i].item())])
        for start in range(0, semantic_logits.size(1), self.band):
            stop = min(start + self.band, semantic_logits.size(1))
            logits = upsample_rows(semantic_logits, start, stop)
            top, bottom = 4 * start, 4 * stop
            segments[top:bottom], semantic[top:bottom] = self.decide(logits, top, windows, masks)
        return PanopticLogits(segments, semantic, torch.tensor(keep, device=semantic_logits.device))

    def remove_masks(
        self, boxes: Tensor, mask_logits: Tensor, classes: Tensor, height: int, width: int
    ) -> tuple[list[int], list[Tensor]]:
        """Drop candidates whose mask is empty or mostly taken by better ones of the same class (quirk Q10).

        Returns:
            Indices kept, and for each the mask logits of its window, cut at the canvas. Nothing kept: index 0 and a
            mask of no pixels (quirk Q6).
        """
        canvases: dict[int, Tensor] = {}
        keep: list[int] = []
        masks: list[Tensor] = []
        for i in range(len(boxes)):
            kind = int(classes[i].item())
            if kind == 0:  # the placeholder has no mask (quirk Q5)
                continue
            y1, x1, rows, columns = mask_window(boxes[i])
            resized = F.interpolate(mask_logits[i][None, None], [rows, columns], mode="bilinear", align_corners=False)
            logits = resized[0, 0, : max(height - y1, 0), : max(width - x1, 0)]
            mask = logits > 0
            if kind not in canvases:
                canvases[kind] = torch.zeros((height, width), dtype=torch.bool, device=mask_logits.device)
            canvas = canvases[kind][y1 : y1 + rows, x1 : x1 + columns]
            area, taken = int(mask.sum().item()), int((mask & canvas).sum().item())
            if area > 0 and taken / area <= self.overlap:
                canvas.logical_or_(mask)  # TorchScript would make `|=` a new tensor
                keep.append(i)
                masks.append(logits)
        if len(keep) == 0:
            return [0], [mask_logits.new_zeros((0, 0))]
        return keep, masks

    def decide(self, logits: Tensor, top: int, windows: list[list[int]], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Panoptic and semantic maps of one band.

        An instance's logit is 0 outside its box and takes part there (quirk Q4): among several such zeros the first
        wins, so each pixel only needs to know the first instance that does not cover it.

        Args:
            logits: (S, rows, W) semantic logits of the band.
            top: first row of the band.
            windows: y1, x1, y2, x2 of each instance's semantic plane, and its class.
            masks: mask logits of each instance's window.

        Returns:
            (rows, W) uint8 each.
        """
        rows = logits.size(1)
        stuff_best, stuff_index = logits[: self.stuff].max(0)
        thing_best, thing_index = logits[self.stuff :].max(0)
        best = torch.full_like(stuff_best, -torch.inf)  # over the instances that cover the pixel
        winner = torch.zeros_like(stuff_index)
        plane_best = torch.full_like(stuff_best, -torch.inf)
        first_outside = torch.zeros_like(stuff_index)
        for i, window in enumerate(windows):
            y1, x1, kind = window[0] - top, window[1], window[4]
            mask_rows, mask_columns = masks[i].size(0), masks[i].size(1)
            low, high = max(y1, 0), min(max(window[2] - top, y1 + mask_rows), rows)
            right = max(window[3], x1 + mask_columns)
            if kind == 0 or low >= high or x1 >= right:
                continue
            plane = logits.new_zeros((high - low, right - x1))
            covered = min(window[2] - top, rows)
            if low < covered and x1 < window[3]:
                plane[: covered - low, : window[3] - x1] = logits[self.stuff - 1 + kind, low:covered, x1 : window[3]]
            box_plane = plane_best[low:high, x1:right]
            torch.maximum(box_plane, plane, out=box_plane)
            if mask_columns > 0 and low < y1 + mask_rows:
                mask = masks[i][low - y1 : high - y1]
                plane[: mask.size(0), :mask_columns] += mask
            box_best, box_winner = best[low:high, x1:right], winner[low:high, x1:right]
            box_winner.masked_fill_(plane > box_best, i)
            torch.maximum(box_best, plane, out=box_best)
            outside = first_outside[low:high, x1:right]
            outside += outside == i
        uncovered = first_outside < len(windows)
        zero_wins = uncovered & ((best < 0) | ((best == 0) & (first_outside < winner)))
        best = best.masked_fill(zero_wins, 0.0)
        winner = torch.where(zero_wins, first_outside, winner)
        plane_best = torch.where(uncovered, plane_best.clamp(min=0), plane_best)
        void = thing_best - plane_best
        instance_wins = best > stuff_best
        segments = torch.where(instance_wins, winner + self.stuff, stuff_index)
        segments = segments.masked_fill(void > torch.where(instance_wins, best, stuff_best), 255)
        semantic = torch.where(thing_best > stuff_best, thing_index + self.stuff, stuff_index)
        return segments.byte(), semantic.byte()

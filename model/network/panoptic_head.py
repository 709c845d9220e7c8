"""The parameter-free panoptic head (Xiong et al. 2019, section 3.2), without its full-size logits.

The logits of one image at 800 x 1344 with 53 stuff classes and 100 instances would be 0.7 GB. Here each instance
touches its own box only, and the semantic logits are enlarged tile by tile, only the classes that can win in the tile:
an enlarged logit lies between the four it comes from, so a class whose largest of four is below the smallest of four of
another loses between those four. `plain.py` is the same arithmetic written plainly; the results are equal.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import ops as ops  # registers the kernels of a device
from model.network.structures import Detections, PanopticLogits

LEAST = 33  # rows and columns together: torch's enlargement rounds otherwise where its sides are 128 or less


class Bids(NamedTuple):
    """What the instances bid for each pixel, (H, W) each.

    Attributes:
        best: highest logit of the instances whose box covers the pixel; -inf for none.
        winner: uint8, the instance it belongs to.
        plane: highest semantic logit of the same instances, without the mask's (quirk Q9).
        outside: uint8, the first instance whose box does not cover the pixel.
    """

    best: Tensor
    winner: Tensor
    plane: Tensor
    outside: Tensor


class Span(NamedTuple):
    """A piece of an axis of the logits: positions low:high give the enlarged positions of start:stop exactly."""

    low: int
    high: int
    start: int
    stop: int


def mask_window(box: Tensor) -> tuple[int, int, int, int]:
    """Top row, left column, rows and columns of the box's mask: truncated (quirk Q8), at least one pixel."""
    x1, y1, x2, y2 = int(box[0].item()), int(box[1].item()), int(box[2].item()), int(box[3].item())
    return y1, x1, max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)


def semantic_window(box: Tensor) -> tuple[int, int, int, int]:
    """Rows y1:y2 and columns x1:x2 of the box's semantic plane: its far ends rounded (quirk Q8)."""
    x1, y1 = int(box[0].item()), int(box[1].item())
    return y1, x1, int(box[3].round().item() + 1), int(box[2].round().item() + 1)


def spans(length: int, size: int) -> list[Span]:
    """Pieces of `size` positions, one of them context on each side, that cover an axis; the last may overlap."""
    size = min(size, length)
    found: list[Span] = []
    start = 0
    while start < length:
        low = min(max(start - 1, 0), length - size)
        stop = length if low + size == length else low + size - 1
        found.append(Span(low, low + size, start, stop))
        start = stop
    return found


def enlarge(logits: Tensor, rows: Span, columns: Span, zoom: int) -> Tensor:
    """(S, rows.low:high, columns.low:high) enlarged `zoom` times (bilinear), cut to what start:stop became."""
    whole = F.interpolate(logits[None], scale_factor=float(zoom), mode="bilinear", align_corners=False)[0]
    top, left = zoom * (rows.start - rows.low), zoom * (columns.start - columns.low)
    return whole[:, top : zoom * (rows.stop - rows.low), left : zoom * (columns.stop - columns.low)]


def enlarge_window(plane: Tensor, window: tuple[int, int, int, int], zoom: int, least: int = LEAST) -> Tensor:
    """Rows y1:y2 and columns x1:x2 (a window is y1, x1, y2, x2) of the enlargement of a plane (h, w)."""
    y1, x1, y2, x2 = window
    rows = around(y1, y2, plane.size(0), 17, zoom)
    columns = around(x1, x2, plane.size(1), least - (rows.high - rows.low), zoom)
    rows = around(y1, y2, plane.size(0), least - (columns.high - columns.low), zoom)
    enlarged = enlarge(plane[None, rows.low : rows.high, columns.low : columns.high], rows, columns, zoom)
    top, left = y1 - zoom * rows.start, x1 - zoom * columns.start
    return enlarged[0, top : top + y2 - y1, left : left + x2 - x1]


def around(first: int, last: int, length: int, size: int, zoom: int) -> Span:
    """The piece of an axis that gives the enlarged positions first:last, at least `size` long where the axis is."""
    start, stop = first // zoom, (last + zoom - 1) // zoom
    low, high = max(start - 1, 0), min(stop + 1, length)
    high = min(max(high, low + size), length)
    return Span(max(min(low, high - size), 0), high, start, stop)


class PanopticHead(nn.Module):
    """Lets stuff, instances and void compete for each pixel.

    Args:
        stuff: U, number of stuff classes.
        overlap: share of its mask that a candidate may lose to better ones of its class.
        tile: rows and columns of semantic logits enlarged at a time.
        zoom: sides of a semantic logit, pixels.
    """

    def __init__(self, stuff: int, overlap: float = 0.3, tile: tuple[int, int] = (10, 26), zoom: int = 4) -> None:
        super().__init__()
        self.stuff = stuff
        self.overlap = overlap
        self.tile = tile
        self.zoom = zoom
        self.least = LEAST

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
            semantic_logits: (S, H / 4, W / 4) float32, H and W at least 8.
            boxes: (n, 4) candidates by descending score, n >= 1, xyxy in pixels of the padded image.
            mask_logits: (n, 28, 28) float32, of the candidate's class.
            classes: (n,) int64, 1..T, or 0 for the placeholder (quirk Q5).

        Returns:
            The decision at H x W.
        """
        semantic_logits = semantic_logits.contiguous()  # torch's enlargement rounds otherwise in channels-last
        rows, columns, zoom = semantic_logits.size(1), semantic_logits.size(2), self.zoom
        boxes, classes = boxes.cpu(), classes.cpu()  # window arithmetic needs them on the host
        keep, masks = self.remove_masks(boxes, mask_logits, classes, zoom * rows, zoom * columns)
        bids = self.collect(semantic_logits, boxes[keep], classes[keep], masks)
        segments = torch.empty((zoom * rows, zoom * columns), dtype=torch.uint8, device=semantic_logits.device)
        semantic = torch.empty_like(segments)
        slack = 1e-6 * torch.maximum(semantic_logits.amax(), -semantic_logits.amin())  # an enlarged logit is rounded
        tall = min(max(self.tile[0], self.least - min(self.tile[1], columns)), rows)
        wide = max(self.tile[1], self.least - tall)
        for band in spans(rows, tall):
            top, bottom = zoom * band.start, zoom * band.stop
            best, winner, plane = self.settle(bids, top, bottom, len(keep))
            low = semantic_logits[:, band.low : band.high]
            able = self.contenders(low, slack, bool((plane < 0).any()))
            for tile in spans(columns, wide):
                left, right = zoom * tile.start, zoom * tile.stop
                segments[top:bottom, left:right], semantic[top:bottom, left:right] = self.decide(
                    low, able, band, tile, best[:, left:right], winner[:, left:right], plane[:, left:right]
                )
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

    def collect(self, semantic_logits: Tensor, boxes: Tensor, classes: Tensor, masks: list[Tensor]) -> Bids:
        """What the instances kept, in channel order, bid; `masks` are the mask logits of their windows."""
        rows, columns, zoom = semantic_logits.size(1), semantic_logits.size(2), self.zoom
        best = semantic_logits.new_full((zoom * rows, zoom * columns), -torch.inf)
        winner = torch.zeros_like(best, dtype=torch.uint8)
        best_plane, outside = best.clone(), winner.clone()  # no tuple yet: TorchScript drops writes to its tensors
        for i, mask in enumerate(masks):
            kind = int(classes[i].item())
            y1, x1, y2, x2 = semantic_window(boxes[i])
            y2, x2 = min(y2, zoom * rows), min(x2, zoom * columns)
            bottom, right = max(y2, y1 + mask.size(0)), max(x2, x1 + mask.size(1))
            if kind == 0 or y1 >= bottom or x1 >= right:
                continue
            plane = best.new_zeros((bottom - y1, right - x1))
            if y1 < y2 and x1 < x2:
                plane[: y2 - y1, : x2 - x1] = enlarge_window(
                    semantic_logits[self.stuff - 1 + kind], (y1, x1, y2, x2), zoom
                )
            box_plane = best_plane[y1:bottom, x1:right]
            torch.maximum(box_plane, plane, out=box_plane)
            plane[: mask.size(0), : mask.size(1)].add_(mask)
            box_best, box_outside = best[y1:bottom, x1:right], outside[y1:bottom, x1:right]
            winner[y1:bottom, x1:right].masked_fill_(plane > box_best, i)
            torch.maximum(box_best, plane, out=box_best)
            box_outside.add_(box_outside == i)
        return Bids(best, winner, best_plane, outside)

    def settle(self, bids: Bids, top: int, bottom: int, instances: int) -> tuple[Tensor, Tensor, Tensor]:
        """Best logit, winner and best semantic logit over all instances, in rows top:bottom.

        An instance's logit is 0 outside its box and takes part there (quirk Q4): among several such zeros the first
        wins, so each pixel only needs to know the first instance that does not cover it.
        """
        best, winner, outside = bids.best[top:bottom], bids.winner[top:bottom], bids.outside[top:bottom]
        uncovered = outside < instances
        zero_wins = uncovered & ((best < 0) | ((best == 0) & (outside < winner)))
        plane = torch.where(uncovered, bids.plane[top:bottom].clamp(min=0), bids.plane[top:bottom])
        return best.masked_fill(zero_wins, 0.0), torch.where(zero_wins, outside, winner), plane

    def contenders(self, logits: Tensor, slack: Tensor, sunk: bool) -> Tensor:
        """(S, w - 1) whether a class can win between two columns of a band's logits (S, rows, w).

        Stuff has to beat stuff. A thing has to beat things, and stuff as well: else it changes neither the semantic map
        nor void, which is at most the best thing unless all instances cover a pixel with negative planes (`sunk`).
        """
        high, low = torch.maximum(logits[:, 1:], logits[:, :-1]), torch.minimum(logits[:, 1:], logits[:, :-1])
        high, low = torch.maximum(high[..., 1:], high[..., :-1]), torch.minimum(low[..., 1:], low[..., :-1])
        stuff = low[: self.stuff].amax(0) - slack
        things = low[self.stuff :].amax(0) - slack
        if not sunk:
            things = torch.maximum(things, stuff)
        loses = torch.cat([(high[: self.stuff] < stuff).all(1), (high[self.stuff :] < things).all(1)])
        return ~loses  # a NaN never loses

    def decide(
        self, logits: Tensor, able: Tensor, rows: Span, columns: Span, best: Tensor, winner: Tensor, plane: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Panoptic and semantic maps of one tile.

        Args:
            logits: (S, rows.low:high, w) of the band.
            able: see `contenders`.
            rows: of the tile.
            columns: of the tile.
            best: highest logit of the instances.
            winner: the instance it belongs to.
            plane: highest semantic logit of the instances.

        Returns:
            uint8 each.
        """
        chosen = torch.where(able[:, columns.low : columns.high - 1].any(1))[0]
        stuff = int((chosen < self.stuff).sum().item())
        enlarged = enlarge(logits[:, :, columns.low : columns.high].index_select(0, chosen), rows, columns, self.zoom)
        kinds = chosen.byte()
        stuff_best, stuff_index = highest(enlarged[:stuff], kinds[:stuff])
        void = torch.zeros_like(stuff_best, dtype=torch.bool)
        semantic = stuff_index
        if stuff < len(chosen):
            thing_best, thing_index = highest(enlarged[stuff:], kinds[stuff:])
            void = thing_best - plane > torch.maximum(best, stuff_best)
            semantic = torch.where(thing_best > stuff_best, thing_index, stuff_index)
        segments = torch.where(best > stuff_best, winner + self.stuff, stuff_index)
        return segments.masked_fill(void, 255), semantic


def highest(logits: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of (k, h, w), and which of the ascending `kinds` (k,) uint8 it is, the first of equal ones.

    In three passes that are vectorised; `max` with indices is not.
    """
    best = logits.amax(0)
    first = ((logits == best).byte() * (255 - kinds)[:, None, None]).amax(0)
    return best, 255 - first

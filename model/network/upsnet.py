"""UPSNet (Xiong et al. 2019): the network; `configurations` builds it."""

import torch
from torch import Tensor, nn

from model import ops
from model.network.backbone import FeaturePyramid
from model.network.images import ImageTransform
from model.network.instance_head import BoxHead, Candidates, MaskHead, pool, pool_regions, pyramid_levels
from model.network.panoptic_head import PanopticHead
from model.network.rpn import RegionProposalNetwork
from model.network.segments import Segments, unpack
from model.network.semantic_head import SemanticHead
from model.network.structures import (
    Analysis,
    Batch,
    BoxPredictions,
    Detections,
    Drawn,
    Located,
    Panoptic,
    Proposals,
    Pyramid,
)


class UPSNet(nn.Module):
    """Pixels in, panoptic segments out.

    Args:
        transform: resizes, normalises and pads images.
        backbone: turns pixels into C2..C5; any module that gives `Stages`.
        pyramid: turns C2..C5 into P2..P6.
        rpn: proposes boxes from P2..P6.
        box_head: gives each proposal classes and boxes.
        mask_head: gives each detection a mask.
        candidates: chooses detections.
        semantic_head: turns P2..P5 into logits at stride 4.
        panoptic_head: decides each pixel from logits and detections.
        segments: merges the decision into segments.
        canonical_side: side of the smallest box that is pooled from P4, pixels.
    """

    def __init__(
        self,
        transform: ImageTransform,
        backbone: nn.Module,
        pyramid: FeaturePyramid,
        rpn: RegionProposalNetwork,
        box_head: BoxHead,
        mask_head: MaskHead,
        candidates: Candidates,
        semantic_head: SemanticHead,
        panoptic_head: PanopticHead,
        segments: Segments,
        canonical_side: float,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.pyramid = pyramid
        self.rpn = rpn
        self.box_head = box_head
        self.mask_head = mask_head
        self.candidates = candidates
        self.semantic_head = semantic_head
        self.panoptic_head = panoptic_head
        self.segments = segments
        self.canonical_side = canonical_side

    def forward(self, images: list[Tensor]) -> list[Panoptic]:
        """Segment images.

        Args:
            images: (3, H, W) uint8 RGB, one or more, all of one `padded_size`.

        Returns:
            One `Panoptic` for each image, at its own size, on the host. It depends on that image alone.
        """
        batch = self.prepare(images)
        located = self.locate(batch.pixels, batch.limits)
        counts, most = self.count(located)
        return self.finish(located, self.draw(located, self.rows(located, counts)), counts, most, batch)

    @torch.jit.export
    def prepare(self, images: list[Tensor]) -> Batch:
        """The batch that `locate` and `finish` take: with `count`, `rows` and `draw`, `forward` in pieces."""
        return self.transform(images, self.dtype())  # type: ignore[no-any-return]

    @torch.jit.export
    def locate(self, pixels: Tensor, limits: Tensor) -> Located:
        """All that is found before the host must wait for a number: the same work for every batch of one shape.

        Args:
            pixels: (N, 3, H, W) of `Batch`.
            limits: (N, 4) of `Batch`.
        """
        pyramid = self.features(pixels)
        predictions = self.predict_boxes(pyramid, self.rpn(pyramid, limits), limits)
        return self.candidates_of(pyramid, predictions, self.semantic_head(pyramid))

    @torch.jit.export
    def count(self, located: Located) -> tuple[list[int], list[int]]:
        """How many candidates each image has, and its most frequent class: the host waits to know."""
        known = ops.to_host(torch.stack([located.detections.counts, located.detections.most_of_a_class]))
        counts: list[int] = known[0].tolist()
        most: list[int] = known[1].tolist()
        return counts, most

    @torch.jit.export
    def rows(self, located: Located, counts: list[int]) -> Tensor:
        """Which of all rows of `located.detections` are candidates: (R,) float32; on a GPU some are spare."""
        most = located.detections.boxes.size(1)
        rows: list[float] = []
        for i, count in enumerate(counts):
            rows += [float(i * most + k) for k in range(count)]
        rows += [0.0] * ops.spare_rows(len(rows), located.logits)
        return ops.numbers(rows, located.logits)

    @torch.jit.export
    def draw(self, located: Located, rows: Tensor) -> Drawn:
        """The candidates of some rows, with their masks: the same work for every batch with so many."""
        found, chosen = located.detections, rows.long()
        boxes, scores = found.boxes.flatten(0, 1)[chosen], found.scores.flatten()[chosen]
        classes, levels = found.classes.flatten()[chosen], located.levels.flatten()[chosen]
        images = torch.div(chosen, found.boxes.size(1), rounding_mode="floor").to(boxes.dtype)
        pyramid = located.pyramid
        features = [pyramid.p2, pyramid.p3, pyramid.p4, pyramid.p5]
        pooled = ops.roi_align(features, torch.cat([images[:, None], boxes], 1), levels, self.mask_head.side)
        return Drawn(boxes, scores, classes, self.mask_head.of_class(pooled, classes))

    @torch.jit.export
    def finish(
        self, located: Located, drawn: Drawn, counts: list[int], most: list[int], batch: Batch
    ) -> list[Panoptic]:
        """The answers of `forward`; `counts` and `most` as `count` gives them."""
        detections = by_image(drawn, counts, most)
        decision = self.panoptic_head(located.logits, detections)
        return unpack(self.segments(decision, located.logits, detections, batch), batch.original_sizes)

    @torch.jit.export
    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width the network works at: images that agree in it can share a batch."""
        return self.transform.padded_size(height, width)

    @torch.jit.export
    def analyze(self, images: list[Tensor]) -> list[Analysis]:
        """The answers of `forward`, with the semantic map and the instance detections, for evaluation."""
        batch = self.prepare(images)
        pyramid = self.features(batch.pixels)
        predictions = self.predict_boxes(pyramid, self.rpn(pyramid, batch.limits), batch.limits)
        located = self.candidates_of(pyramid, predictions, self.semantic_head(pyramid))
        detections = self.panoptic_detections(located)
        instances = self.instance_detections(pyramid, predictions)
        decision = self.panoptic_head(located.logits, detections)
        panoptics = unpack(self.segments(decision, located.logits, detections, batch), batch.original_sizes)
        results: list[Analysis] = []
        for i, panoptic in enumerate(panoptics):
            semantic = ops.to_original(decision.semantic[i], batch.sizes[i], batch.scales[i], batch.original_sizes[i])
            things = instances[i]
            boxes = things.boxes / batch.scales[i]
            results.append(Analysis(panoptic, semantic, boxes, things.scores, things.classes, things.mask_logits))
        return results

    def features(self, pixels: Tensor) -> Pyramid:
        """(N, 3, H, W) -> P2..P6 in the weights' type, channels-last as every feature map; other pixels are copied."""
        pixels = pixels.to(self.dtype()).contiguous(memory_format=torch.channels_last)
        return self.pyramid(self.backbone(pixels))  # type: ignore[no-any-return]

    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.semantic_head.logits.weight.dtype

    def predict_boxes(self, pyramid: Pyramid, proposals: list[Proposals], limits: Tensor) -> BoxPredictions:
        """Boxes, inside the limits (N, 4), and scores of each proposal of as many an image, for each class."""
        boxes = torch.stack([p.boxes for p in proposals])
        images = torch.arange(len(boxes), device=boxes.device).to(boxes.dtype)[:, None, None]
        regions = torch.cat([images.expand(-1, boxes.size(1), 1), boxes], dim=2).flatten(0, 1)
        logits, deltas = self.box_head(pool_regions(pyramid, regions, self.box_head.side, self.canonical_side))
        boxes = self.candidates.decode(boxes, deltas, limits)
        real = torch.stack([p.scores >= 0 for p in proposals])
        scores = logits.float().softmax(1).view(real.size(0), real.size(1), -1)
        return BoxPredictions(boxes, scores * real[..., None])

    def candidates_of(self, pyramid: Pyramid, predictions: BoxPredictions, logits: Tensor) -> Located:
        """The candidates for the panoptic head, beside the semantic logits."""
        found = self.candidates.panoptic(predictions.boxes, predictions.scores)
        levels = pyramid_levels(found.boxes.flatten(0, 1), self.canonical_side).view(found.classes.shape)
        return Located(pyramid, logits, found, levels)

    def panoptic_detections(self, located: Located) -> list[Detections]:
        """Detections for the panoptic head, at least one an image."""
        counts, most = self.count(located)
        return by_image(self.draw(located, self.rows(located, counts)), counts, most)

    def instance_detections(self, pyramid: Pyramid, predictions: BoxPredictions) -> list[Detections]:
        """Detections of each image for instance segmentation; none where nothing is found."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for i in range(len(predictions.boxes)):
            found.append(self.candidates.instances(predictions.boxes[i], predictions.scores[i]))
        masks = self.masks(pyramid, [f[0] for f in found], torch.cat([f[2] for f in found]))
        return [Detections(f[0], f[1], f[2], masks[i], 0) for i, f in enumerate(found)]

    def masks(self, pyramid: Pyramid, boxes: list[Tensor], classes: Tensor) -> list[Tensor]:
        """Mask logits of each box for its class, per image (R_i, 28, 28)."""
        pooled = pool(pyramid, boxes, self.mask_head.side, self.canonical_side)
        drawn = self.mask_head.of_class(pooled, classes)
        return list(drawn.split([len(b) for b in boxes]))


def by_image(drawn: Drawn, counts: list[int], most: list[int]) -> list[Detections]:
    """The candidates of each image; spare ones come last and are left out."""
    results: list[Detections] = []
    first = 0
    for i, count in enumerate(counts):
        last = first + count
        boxes, scores, classes = drawn.boxes[first:last], drawn.scores[first:last], drawn.classes[first:last]
        results.append(Detections(boxes, scores, classes, drawn.mask_logits[first:last], most[i]))
        first = last
    return results

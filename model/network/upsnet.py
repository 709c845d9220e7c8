"""UPSNet (Xiong et al. 2019): the network, and one builder for each published configuration."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from model.network.anchors import Anchors
from model.network.backbone import FeaturePyramid, FrozenNorm, ResNet
from model.network.images import ImageTransform
from model.network.instance_head import BoxHead, Candidates, MaskHead, pool
from model.network.panoptic_head import PanopticHead
from model.network.rpn import RegionProposalNetwork
from model.network.segments import Segments, SegmentTable, fetch, read_table, to_original
from model.network.semantic_head import SemanticHead
from model.network.structures import Analysis, Batch, Chosen, Detections, Panoptic, PanopticLogits, Proposals, Pyramid

RGB_MEAN = [122.7717, 115.9465, 102.9801]
STRIDES = [4, 8, 16, 32, 64]
RATIOS = [0.5, 1.0, 2.0]


class UPSNet(nn.Module):
    """Pixels in, panoptic segments out.

    Args:
        transform: resizes, normalises, pads.
        backbone: pixels -> C2..C5.
        pyramid: C2..C5 -> P2..P6.
        rpn: P2..P6 -> proposals.
        box_head: regions -> classes and boxes.
        mask_head: regions -> masks.
        candidates: chooses detections.
        semantic_head: P2..P5 -> logits at stride 4.
        panoptic_head: logits and detections -> one decision a pixel.
        segments: the decision -> segments.
        canonical_side: side of a box that is pooled from P4, pixels.
    """

    def __init__(
        self,
        transform: ImageTransform,
        backbone: ResNet,
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
            One `Panoptic` an image, at its own size, on the host. It depends on that image alone.
        """
        batch = self.transform(images)
        pyramid = self.features(batch.pixels)
        logits = self.semantic_head(pyramid).float()
        proposals = self.rpn(pyramid, batch.sizes)
        detections = self.detect(pyramid, proposals, batch.sizes, True)
        tables: list[SegmentTable] = []
        for i, decision in enumerate(self.panoptic_head.batch(logits, detections)):
            tables.append(self.merge(decision, logits[i], detections[i], batch, i))
        return [read_table(table) for table in fetch(tables)]

    @torch.jit.export
    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width the network works at: images that agree in it can share a batch."""
        return self.transform.padded_size(height, width)

    @torch.jit.export
    def analyze(self, images: list[Tensor]) -> list[Analysis]:
        """Everything `forward` finds, with the semantic map and the instances of the detection path, for evaluation."""
        batch = self.transform(images)
        pyramid = self.features(batch.pixels)
        logits = self.semantic_head(pyramid).float()
        proposals = self.rpn(pyramid, batch.sizes)
        detections = self.detect(pyramid, proposals, batch.sizes, True)
        instances = self.detect(pyramid, proposals, batch.sizes, False)
        results: list[Analysis] = []
        for i, decision in enumerate(self.panoptic_head.batch(logits, detections)):
            panoptic = read_table(self.merge(decision, logits[i], detections[i], batch, i))
            semantic = to_original(decision.semantic, batch.sizes[i], batch.scales[i], batch.original_sizes[i])
            things = instances[i]
            boxes = things.boxes / batch.scales[i]
            results.append(Analysis(panoptic, semantic, boxes, things.scores, things.classes, things.mask_logits))
        return results

    def features(self, pixels: Tensor) -> Pyramid:
        """(N, 3, H, W) float32 -> P2..P6 in the weights' type, channels-last as every feature map from here on."""
        pixels = pixels.to(self.dtype()).contiguous(memory_format=torch.channels_last)
        return self.pyramid(self.backbone(pixels))  # type: ignore[no-any-return]

    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.semantic_head.logits.weight.dtype

    def detect(
        self, pyramid: Pyramid, proposals: list[Proposals], sizes: list[tuple[int, int]], panoptic: bool
    ) -> list[Detections]:
        """Detections of each image with their masks; of the panoptic path (never empty) or of the instance path."""
        pooled = pool(pyramid, [p.boxes for p in proposals], 7, self.canonical_side)
        logits, deltas = self.box_head(pooled)
        counts = [len(p.boxes) for p in proposals]
        moves = deltas.float().split(counts)
        boxes = [self.candidates.decode(p.boxes, moves[i], sizes[i]) for i, p in enumerate(proposals)]
        filled = torch.cat([p.scores >= 0 for p in proposals])
        scores = (logits.float().softmax(1) * filled[:, None]).split(counts)
        if panoptic:
            return self.panoptic_detections(pyramid, self.candidates.panoptic(torch.stack(boxes), torch.stack(scores)))
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for i in range(len(boxes)):
            found.append(self.candidates.instances(boxes[i], scores[i]))
        masks = self.masks(pyramid, [f[0] for f in found], torch.cat([f[2] for f in found]))
        return [Detections(f[0], f[1], f[2], masks[i], 0) for i, f in enumerate(found)]

    def panoptic_detections(self, pyramid: Pyramid, chosen: Chosen) -> list[Detections]:
        """Candidates with their masks. The host waits once, for how many there are."""
        kinds = self.mask_head.logits.out_channels
        filled = torch.arange(chosen.classes.size(1), device=chosen.counts.device) < chosen.counts[:, None]
        frequency = chosen.scores.new_zeros((len(chosen.counts), kinds)).scatter_add(1, chosen.classes, filled.float())
        known = torch.stack([chosen.counts, frequency.amax(1).long()]).cpu()
        counts: list[int] = known[0].tolist()
        alike: list[int] = known[1].tolist()
        boxes = [chosen.boxes[i, :count] for i, count in enumerate(counts)]
        classes = [chosen.classes[i, :count] for i, count in enumerate(counts)]
        masks = self.masks(pyramid, boxes, torch.cat(classes))
        results: list[Detections] = []
        for i, count in enumerate(counts):
            results.append(Detections(boxes[i], chosen.scores[i, :count], classes[i], masks[i], alike[i]))
        return results

    def masks(self, pyramid: Pyramid, boxes: list[Tensor], classes: Tensor) -> list[Tensor]:
        """Per image (R_i, 28, 28) logits of the class of each box."""
        drawn = self.mask_head.of_class(pool(pyramid, boxes, 14, self.canonical_side), classes)
        return list(drawn.split([len(b) for b in boxes]))

    def merge(self, decision: PanopticLogits, logits: Tensor, found: Detections, batch: Batch, i: int) -> SegmentTable:
        """Segments of image `i` of the batch."""
        size, scale, original = batch.sizes[i], batch.scales[i], batch.original_sizes[i]
        return self.segments(decision, logits, found.classes, found.scores, size, scale, original)  # type: ignore[no-any-return]


def published(
    blocks: tuple[int, int, int, int],
    stuff: int,
    things: int,
    short_side: int,
    long_side: int,
    stuff_area_limit: int,
    semantic_widths: list[int],
    context: bool,
    deformable_from: int = 6,
) -> UPSNet:
    """What the four published configurations share (Xiong et al. 2019, section 4)."""
    width = 256
    anchors = Anchors(STRIDES, 8, RATIOS)
    return UPSNet(
        transform=ImageTransform(RGB_MEAN, [1.0, 1.0, 1.0], short_side, long_side),
        backbone=ResNet(blocks, FrozenNorm, deformable_from=deformable_from),
        pyramid=FeaturePyramid([256, 512, 1024, 2048], width, context),
        rpn=RegionProposalNetwork(width, anchors, len(RATIOS), pre_nms=1000, post_nms=1000),
        box_head=BoxHead(width * 7 * 7, 1024, things + 1),
        mask_head=MaskHead(width, 256, 4, things + 1),
        candidates=Candidates(score_threshold=0.05, panoptic_threshold=0.6, limit=100),
        semantic_head=SemanticHead(semantic_widths, stuff + things),
        panoptic_head=PanopticHead(stuff),
        segments=Segments(stuff, stuff_area_limit),
        canonical_side=224.0,
    )


def coco_r50(stuff: int = 53, things: int = 80, short_side: int = 800, long_side: int = 1333) -> UPSNet:
    """UPSNet-50 on COCO: PQ 42.5 on val2017."""
    widths = [256, 256, 128, 128]
    return published((3, 4, 6, 3), stuff, things, short_side, long_side, 4096, widths, context=True)


def coco_r101_dcn(stuff: int = 53, things: int = 80, short_side: int = 800, long_side: int = 1333) -> UPSNet:
    """UPSNet-101 with deformable C3..C5 on COCO: PQ 46.6 on test-dev. Quirk Q1 (random test scale) is not kept."""
    widths = [256, 256, 128, 128]
    return published((3, 4, 23, 3), stuff, things, short_side, long_side, 4096, widths, True, deformable_from=3)


def cityscapes_r50(stuff: int = 11, things: int = 8, short_side: int = 1024, long_side: int = 2048) -> UPSNet:
    """UPSNet-50 on Cityscapes: PQ 59.3 on val."""
    widths = [256, 128, 128]
    return published((3, 4, 6, 3), stuff, things, short_side, long_side, 2048, widths, context=False)


def cityscapes_r101_w_coco(stuff: int = 11, things: int = 8, short_side: int = 1024, long_side: int = 2048) -> UPSNet:
    """UPSNet-101 on Cityscapes from COCO weights: PQ 61.8 on val with multi-scale testing."""
    widths = [256, 128, 128]
    return published((3, 4, 23, 3), stuff, things, short_side, long_side, 2048, widths, context=False)


def camvid_demo(stuff: int = 8, things: int = 3, short_side: int = 360, long_side: int = 640) -> UPSNet:
    """A small UPSNet for 480 x 360 street photos, trainable from scratch: group norms throughout, bounded offsets.

    Anchors are half the published size and regions are pooled from finer levels: two thirds of CamVid's things are
    smaller than 32 x 32 pixels. A stuff limit of 256 pixels lets poles and signs be found.
    """
    width = 96
    norm = partial(nn.GroupNorm, 16)
    anchors = Anchors(STRIDES, 4, RATIOS)
    return UPSNet(
        transform=ImageTransform(RGB_MEAN, [58.0, 57.0, 57.0], short_side, long_side),
        backbone=ResNet((2, 2, 3, 2), norm, width=32, deformable_from=5, offset_limit=8.0),
        pyramid=FeaturePyramid([128, 256, 512, 1024], width, True, norm),
        rpn=RegionProposalNetwork(width, anchors, len(RATIOS), pre_nms=500, post_nms=300, norm=norm),
        box_head=BoxHead(width * 7 * 7, 256, things + 1, norm),
        mask_head=MaskHead(width, 96, 2, things + 1, norm),
        candidates=Candidates(score_threshold=0.05, panoptic_threshold=0.5, limit=100),
        semantic_head=SemanticHead([width, width, 64], stuff + things, norm, offset_limit=8.0),
        panoptic_head=PanopticHead(stuff),
        segments=Segments(stuff, stuff_area_limit=256),
        canonical_side=112.0,
    )


CONFIGURATIONS: dict[str, Callable[..., UPSNet]] = {
    "coco_r50": coco_r50,
    "coco_r101_dcn": coco_r101_dcn,
    "cityscapes_r50": cityscapes_r50,
    "cityscapes_r101_w_coco": cityscapes_r101_w_coco,
    "camvid_demo": camvid_demo,
}

"""The tuples that pass between the parts of the network, in the order in which they are made."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images of one padded shape, ready for the backbone.

    Attributes:
        pixels: (N, 3, H, W) RGB minus its mean, resized, zero-padded to multiples of 32; channels-last.
        sizes: height and width of each image after resizing, before padding.
        scales: the factor each image was resized by.
        original_sizes: height and width of each image as given.
        limits: (N, 4) float32, the largest x1, y1, x2, y2 of a box inside each resized image.
    """

    pixels: Tensor
    sizes: list[tuple[int, int]]
    scales: list[float]
    original_sizes: list[tuple[int, int]]
    limits: Tensor


class Stages(NamedTuple):
    """Backbone features C2..C5, each (N, C, H / stride, W / stride), strides 4, 8, 16, 32."""

    c2: Tensor
    c3: Tensor
    c4: Tensor
    c5: Tensor


class Pyramid(NamedTuple):
    """Pyramid features P2..P6 of one width, strides 4, 8, 16, 32, 64."""

    p2: Tensor
    p3: Tensor
    p4: Tensor
    p5: Tensor
    p6: Tensor


class RpnOutputs(NamedTuple):
    """Logits and deltas of every anchor, level by level (P2..P6).

    Attributes:
        logits: per level (N, A, h, w), before the sigmoid.
        deltas: per level (N, 4 A, h, w); channel 4 a + {0: dx, 1: dy, 2: dw, 3: dh}.
    """

    logits: list[Tensor]
    deltas: list[Tensor]


class Proposals(NamedTuple):
    """Object proposals of one image, by descending score.

    Attributes:
        boxes: (P, 4) float32, xyxy in pixels of the resized image.
        scores: (P,) float32, after the sigmoid; -1 in a padding row, whose box means nothing.
    """

    boxes: Tensor
    scores: Tensor


class BoxPredictions(NamedTuple):
    """Boxes and scores that the box head predicts for the proposals of a batch.

    Attributes:
        boxes: (N, P, C, 4) float32, a box for each class, xyxy in pixels of the resized image.
        scores: (N, P, C) float32, after the softmax; 0 in padding rows.
    """

    boxes: Tensor
    scores: Tensor


class PaddedDetections(NamedTuple):
    """Detections of a batch, each image's padded to the same number of rows.

    Attributes:
        boxes: (N, K, 4) float32, xyxy in pixels of the resized image.
        scores: (N, K) float32, descending; only the first `counts` of an image are detections.
        classes: (N, K) int64.
        counts: (N,) int64, at least 1.
        most_of_a_class: (N,) int64, how many detections the most frequent class has.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    counts: Tensor
    most_of_a_class: Tensor


class Located(NamedTuple):
    """What is known of a batch before the host must know how many things there are.

    Attributes:
        pyramid: features of the batch.
        logits: (N, S, H / 4, W / 4) float32 semantic logits.
        detections: the candidates for the panoptic head, still without masks.
        levels: (N, K) the level 0..3 (P2..P5) that each candidate's mask is drawn from.
    """

    pyramid: Pyramid
    logits: Tensor
    detections: PaddedDetections
    levels: Tensor


class Drawn(NamedTuple):
    """Detected things of a batch with their masks, image by image; on a GPU a few spare rows follow.

    Attributes:
        boxes: (R, 4) float32, xyxy in pixels of the resized image.
        scores: (R,) float32.
        classes: (R,) int64.
        mask_logits: (R, 28, 28) float32, of the detected class.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    mask_logits: Tensor


class Detections(NamedTuple):
    """Detected things of one image.

    Attributes:
        boxes: (D, 4) float32, xyxy in pixels of the resized image.
        scores: (D,) float32, softmax of the class.
        classes: (D,) int64, 1..T, or 0 for the placeholder (quirk Q5).
        mask_logits: (D, 28, 28) float32, of the detected class.
        max_per_class: how many detections the most frequent class has; 0 if the panoptic head does not see them.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    mask_logits: Tensor
    max_per_class: int


class PanopticDecision(NamedTuple):
    """The panoptic head's decision for a batch, at the padded size, before merging.

    Attributes:
        channels: (N, H, W) uint8: stuff 0..U-1, instance i is U + i, void 255 (Xiong et al. 2019, section 3).
        semantic: (N, H, W) uint8: the best of all S semantic classes.
        order: (n,) int64: of each image in turn, the candidate behind each instance, in channel order; the dropped
            candidates follow.
    """

    channels: Tensor
    semantic: Tensor
    order: Tensor


class Panoptic(NamedTuple):
    """The panoptic segmentation of one image, at its original size.

    Attributes:
        segment_ids: (H, W) uint8; 0 is void, segments are 1..M without gaps, things first.
        classes: (M,) int64, semantic index 0..S-1 of each segment.
        scores: (M,) float32; a thing's detection score, a stuff segment's mean softmax.
        areas: (M,) int64, pixels.
        boxes: (M, 4) int64, x, y, width, height; exact.
    """

    segment_ids: Tensor
    classes: Tensor
    scores: Tensor
    areas: Tensor
    boxes: Tensor


class Analysis(NamedTuple):
    """Everything the network knows of one image, for evaluation.

    Attributes:
        panoptic: the answer of `forward`.
        semantic: (H, W) uint8, semantic argmax at the original size.
        boxes: (D, 4) float32, xyxy in pixels of the original image.
        scores: (D,) float32.
        classes: (D,) int64, 1..T.
        mask_logits: (D, 28, 28) float32, of the detected class.
    """

    panoptic: Panoptic
    semantic: Tensor
    boxes: Tensor
    scores: Tensor
    classes: Tensor
    mask_logits: Tensor

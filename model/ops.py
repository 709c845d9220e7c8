"""Operators with a form for every device. Importing this module registers them, and torchvision's, so archives can run.

Here is what each does; `model.kernels.registry` has the forms of each.
"""

import torch
import torchvision  # noqa: F401 -- registers its operators
from torch import Tensor

from model.kernels.registry import ON_GPU as ON_GPU
from model.kernels.segments_cpu import source_indices as source_indices
from model.kernels.segments_cpu import to_original as to_original


def convolution(
    features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool, stride: int
) -> Tensor:
    """A convolution that is padded to keep the size, and what follows it: bias, sum, ReLU.

    Args:
        features: (N, C, H, W), best channels-last.
        weight: (O, C, K, K), K odd.
        bias: (O,) or None.
        other: what is added before the ReLU, of the result's shape, or None.
        relu: whether a ReLU comes last.
        stride: stride along both axes.

    Returns:
        (N, O, ceil(H / stride), ceil(W / stride)).
    """
    return torch.ops.upsnet.convolution(features, weight, bias, other, relu, stride)  # type: ignore[no-any-return]


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """3 x 3 deformable convolution without modulation; stride 1, padding 1, one deformable group.

    A sample at y <= -1, y >= H, x <= -1 or x >= W is 0, and one at NaN; neighbours outside the image count as 0.

    Args:
        features: (N, C, H, W).
        offsets: (N, 18, H, W) pixels; of tap t = 3 ky + kx, channel 2 t is dy and 2 t + 1 is dx.
        weight: (O, C, 3, 3).
        bias: (O,) or None.
        relu: whether a ReLU comes last.

    Returns:
        (N, O, H, W).
    """
    found: Tensor = torch.ops.upsnet.deformable_convolution(features, offsets, weight, bias, relu)
    return found


def nms(boxes: Tensor, threshold: float) -> Tensor:
    """Greedy suppression within each of many groups.

    Args:
        boxes: (G, K, 4) float32 xyxy with exclusive ends, each group's by descending score.
        threshold: only an IoU above it suppresses.

    Returns:
        (G, K) bool, whether a box is kept.
    """
    return torch.ops.upsnet.nms(boxes, threshold)  # type: ignore[no-any-return]


def roi_align(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """RoIAlign of each region from its level, without the half-pixel shift, with 2 x 2 samples in a bin.

    Positions are float32 whatever the type of the features.

    Args:
        features: P2..P5, (N, C, h, w) each, strides 4 to 32.
        rois: (R, 5) float32: image, x1, y1, x2, y2 in pixels.
        levels: (R,) 0..3.
        size: side of the result.

    Returns:
        (R, C, size, size); (0, C, size, size) for no regions.
    """
    return torch.ops.upsnet.roi_align(features, rois, levels, size)  # type: ignore[no-any-return]


def panoptic(
    logits: Tensor,
    boxes: Tensor,
    masks: Tensor,
    classes: Tensor,
    counts: list[int],
    max_per_class: int,
    stuff: int,
    overlap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decide every pixel of a batch: `model.network.panoptic_head` says how.

    Args:
        logits: (N, S, h, w) float32 semantic logits, h and w at least 2.
        boxes: (n, 4) float32 candidates of all images, each image's by descending score, at least one each.
        masks: (n, 28, 28) float32 mask logits.
        classes: (n,) int64, 1..T, or 0 for the placeholder.
        counts: candidates of each image.
        max_per_class: most candidates of one class in an image.
        stuff: number of stuff classes.
        overlap: share of its mask that a candidate may lose to better ones of its class.

    Returns:
        Panoptic channel and best semantic class of each pixel, (N, 4 h, 4 w) uint8 each, and (n,) int64 the candidates
        of each image in channel order, counted from its first; those that were dropped follow.
    """
    decided: tuple[Tensor, Tensor, Tensor] = torch.ops.upsnet.panoptic(
        logits, boxes, masks, classes, counts, max_per_class, stuff, overlap
    )
    return decided


def add_enlarged(fine: Tensor, coarse: Tensor) -> Tensor:
    """A map plus one of half its size, each of whose pixels is repeated: (N, C, H, W), (N, C, H / 2, W / 2)."""
    return torch.ops.upsnet.add_enlarged(fine, coarse)  # type: ignore[no-any-return]


def sum_levels(levels: list[Tensor], bias: Tensor) -> Tensor:
    """The sum of four levels at the size of the first, and a bias.

    Args:
        levels: (N, S, h, w), (N, S, h / 2, w / 2), (N, S, h / 4, w / 4), (N, S, h / 8, w / 8); enlarged bilinearly.
        bias: (S,).

    Returns:
        (N, S, h, w) float32; the sum is float32 whatever the type of the levels.
    """
    return torch.ops.upsnet.sum_levels(levels, bias)  # type: ignore[no-any-return]


def numbers(numbers: list[float], like: Tensor) -> Tensor:
    """Numbers as (n,) float32 on the device of a tensor, for which the host does not wait."""
    return torch.ops.upsnet.numbers(numbers, like)  # type: ignore[no-any-return]


def segments(
    channels: Tensor,
    semantic: Tensor,
    logits: Tensor,
    classes: Tensor,
    scores: Tensor,
    order: Tensor,
    counts: list[int],
    sizes: list[int],
    scales: list[float],
    originals: list[int],
    stuff: int,
    stuff_area_limit: int,
) -> Tensor:
    """Merge the decision on a batch into segments: things by channel, then stuff by class, numbered from 1; 0 is void.

    An instance turns into the stuff that the semantic classes give at least half of its pixels to (quirk Q14). Then
    stuff with few pixels becomes void (quirk Q15). The placeholder is no segment of its own (quirk Q5).

    Args:
        channels: (N, H, W) uint8 panoptic channels, as `panoptic` gives them.
        semantic: (N, H, W) uint8 semantic classes, below S.
        logits: (N, S, H / 4, W / 4) float32 semantic logits.
        classes: (n,) int64 of the candidates of all images: 1..T, or 0 for the placeholder.
        scores: (n,) float32 of the candidates.
        order: (n,) int64, the candidates of each image in channel order, counted from its first.
        counts: candidates of each image, at least one.
        sizes: height and width of each resized image in turn, 2 N numbers.
        scales: factor that each image was resized by.
        originals: height and width of each image as given, 2 N numbers.
        stuff: number of stuff classes.
        stuff_area_limit: stuff with fewer pixels at the original size becomes void.

    Returns:
        Bytes: a table of each image, (256, 7) float64, and after all tables the map of each image at its original size,
        a uint8 id for each pixel. Row i of a table is segment i: class, score, area, x, y, width, height; the first
        column of row 0 is the number of segments, all else is 0. A thing has its candidate's score, stuff the mean over
        its pixels of its softmax at stride 4.
    """
    packed: Tensor = torch.ops.upsnet.segments(
        channels, semantic, logits, classes, scores, order, counts, sizes, scales, originals, stuff, stuff_area_limit
    )
    return packed


def to_host(numbers: Tensor) -> Tensor:
    """A tensor on the host, for which the host waits; from a GPU by way of page-locked memory."""
    return torch.ops.upsnet.to_host(numbers)  # type: ignore[no-any-return]


def spare_rows(count: int, like: Tensor) -> int:
    """How many rows more to compute: a GPU's library plans each new number of rows anew, which takes milliseconds."""
    return -count % 16 if like.is_cuda else 0


def reinterpret(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The same bits as another type, in a new tensor; TorchScript takes the type in `Tensor.view` for a size."""
    return torch.ops.upsnet.reinterpret(numbers, dtype)  # type: ignore[no-any-return]


def transform(
    images: list[Tensor],
    mean: Tensor,
    std: Tensor,
    scales: list[float],
    sizes: list[int],
    height: int,
    width: int,
    dtype: torch.dtype,
) -> Tensor:
    """Resize images by exact factors, subtract the mean, divide by the deviation, and pad with 0.

    A pixel of the result is at (place + 0.5) / scale - 0.5 of the image, clamped at its border; between pixels it is
    interpolated bilinearly.

    Args:
        images: (3, H, W) uint8 RGB each, of any strides: as a decoder leaves them nothing is copied first.
        mean: (3, 1, 1) float32 grey levels.
        std: (3, 1, 1) float32 grey levels.
        scales: factor of each image.
        sizes: height and width of each resized image, one after the other.
        height: rows of the result, at least those of each image.
        width: columns of the result.
        dtype: type of the result.

    Returns:
        (N, 3, height, width), channels-last.
    """
    return torch.ops.upsnet.transform(images, mean, std, scales, sizes, height, width, dtype)  # type: ignore[no-any-return]


def kernel(device: str) -> str:
    """The form of deformable convolutions that inference takes on a device: gather, triton or torchvision."""
    if not device.startswith("cuda"):
        return "gather"
    return "triton" if ON_GPU["deformable_convolution"].usable else "torchvision"

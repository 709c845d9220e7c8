"""Operators with a form for every device. Importing this module registers them, and torchvision's, so archives can run.

The dispatcher chooses. A CPU has forms of this package's own, a GPU has Triton's. On a GPU without Triton, in place of
a kernel that failed, and with gradients, torch and torchvision stand in. Archives hold calls to these schemas: a change
needs a new format version.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from model.kernels import convolution_cpu, convolution_cudnn, cpu, panoptic_cpu, segments_cpu
from model.kernels.choice import GpuForm
from model.kernels.segments_cpu import source_indices as source_indices
from model.kernels.segments_cpu import to_original as to_original

OUTSIDE = 1e9  # an offset that leads out of every image
_LIBRARY = torch.library.Library("upsnet", "DEF")
_LIBRARY.define(
    "convolution(Tensor features, Tensor weight, Tensor? bias, Tensor? other, bool relu, int stride) -> Tensor"
)
_LIBRARY.define(
    "deformable_convolution(Tensor features, Tensor offsets, Tensor weight, Tensor? bias, bool relu) -> Tensor"
)
_LIBRARY.define("deform_conv2d(Tensor features, Tensor offsets, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.define("has_kernels(Tensor device) -> bool")
_LIBRARY.define(
    "panoptic(Tensor logits, Tensor boxes, Tensor masks, Tensor classes, int[] counts, int alike, int stuff, "
    "float overlap) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define("nms(Tensor boxes, float threshold) -> Tensor")
_LIBRARY.define("reinterpret(Tensor numbers, ScalarType dtype) -> Tensor")
_LIBRARY.define("roi_align(Tensor[] features, Tensor rois, Tensor levels, int size) -> Tensor")
_LIBRARY.define(
    "segments(Tensor channels, Tensor semantic, Tensor logits, Tensor classes, Tensor scores, Tensor order, "
    "int[] counts, int[] sizes, float[] scales, int[] originals, int stuff, int stuff_area_limit) -> Tensor"
)


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
        channels,
        semantic,
        logits,
        classes,
        scores,
        order,
        counts,
        sizes,
        scales,
        originals,
        stuff,
        stuff_area_limit,
    )
    return packed


def reinterpret(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The same bits as another type, in a new tensor; TorchScript takes the type in `Tensor.view` for a size."""
    return torch.ops.upsnet.reinterpret(numbers, dtype)  # type: ignore[no-any-return]


def kernel(device: str) -> str:
    """The form of deformable convolutions that inference takes on a device: gather, triton or torchvision."""
    if not device.startswith("cuda"):
        return "gather"
    return "triton" if ON_GPU["deformable_convolution"].usable else "torchvision"


def convolution_torch(
    features: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool, stride: int
) -> Tensor:
    """`convolution` by torch, one pass after the other."""
    found = F.conv2d(features, weight, bias, stride, weight.size(2) // 2)
    if other is not None:
        found = found + other
    return F.relu(found) if relu else found


def deform_conv2d_torchvision(
    features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False
) -> Tensor:
    """`deform_conv2d` by torchvision, in float32.

    torchvision takes positions in the tensor's type: half precision would misplace samples by up to half a pixel.
    """
    bias32 = bias.float() if bias is not None else None
    moves = offsets.float().nan_to_num(OUTSIDE, OUTSIDE, OUTSIDE)
    out: Tensor = torchvision.ops.deform_conv2d(features.float(), moves, weight.float(), bias32, padding=(1, 1))
    out = out.to(features.dtype)
    return F.relu(out) if relu else out


def roi_align_torchvision(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """`roi_align` by torchvision, in float32: half precision would move boxes."""
    pooled = features[0].new_zeros((len(rois), features[0].size(1), size, size))
    for k, level in enumerate(features):
        chosen = torch.where(levels == k)[0]
        aligned = torchvision.ops.roi_align(level.float(), rois[chosen], size, 0.25 / 2**k, 2, False)
        pooled = pooled.index_copy(0, chosen, aligned.to(pooled.dtype))
    return pooled


def _roi_align_cpu(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    form = roi_align_torchvision if torch.is_grad_enabled() else cpu.roi_align
    return form(features, rois, levels, size)


def _register(
    name: str,
    on_cpu: Callable[..., Any],
    plain: Callable[..., Any],
    kernel: str | Callable[..., Any],
    backward: bool = False,
) -> None:
    """Name the forms of an operator: on a CPU, plain on a GPU, and the GPU's kernel, as `GpuForm` takes it.

    One with a backward is called above autograd, which records what it does.
    """
    ON_GPU[name] = GpuForm(name, plain, kernel, backward)
    for key, form in (("CPU", on_cpu), ("CUDA", ON_GPU[name])):
        _LIBRARY.impl(name, form, key)
        if backward:
            _LIBRARY.impl(name, form, f"Autograd{key}")


ON_GPU: dict[str, GpuForm] = {}
"""By the name of an operator, what a GPU runs."""
_register("convolution", convolution_cpu.convolution, convolution_torch, convolution_cudnn.convolution, backward=True)
_register(
    "deformable_convolution",
    cpu.deform_conv2d,
    deform_conv2d_torchvision,
    "deformable.deform_conv2d",
    backward=True,
)
_LIBRARY.impl("deform_conv2d", deform_conv2d, "CompositeImplicitAutograd")  # archives of version 0.2 and before call it
_register("roi_align", _roi_align_cpu, roi_align_torchvision, "regions.roi_align", backward=True)
_register("nms", cpu.nms, cpu.nms, "regions.nms")
_register("panoptic", panoptic_cpu.panoptic, panoptic_cpu.panoptic, "panoptic.panoptic")
_register("segments", segments_cpu.segments, segments_cpu.segments, "segments.segments")
for _key, _answer in (("CPU", lambda _: False), ("CUDA", lambda _: ON_GPU["panoptic"].usable)):
    _LIBRARY.impl("has_kernels", _answer, _key)  # archives of version 0.1 ask
_LIBRARY.impl(
    "reinterpret", lambda numbers, dtype: numbers.contiguous().clone().view(dtype), "CompositeExplicitAutograd"
)

"""Operators chosen by device. Importing this module registers them, and torchvision's, for archives to call.

The schemas below belong to the archive's format version: archives hold calls to them.
"""

import functools
import importlib.util
import os
import shutil
import warnings
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

_LIBRARY = torch.library.Library("upsnet", "DEF")
_LIBRARY.define("deform_conv2d(Tensor features, Tensor offsets, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.define("has_kernels(Tensor device) -> bool")
_LIBRARY.define(
    "panoptic(Tensor logits, Tensor boxes, Tensor masks, Tensor classes, int[] counts, int alike, int stuff, "
    "float overlap) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define("nms(Tensor boxes, float threshold) -> Tensor")
_LIBRARY.define("reinterpret(Tensor numbers, ScalarType dtype) -> Tensor")
_LIBRARY.define("roi_align(Tensor[] features, Tensor rois, Tensor levels, int size) -> Tensor")


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3 x 3 deformable convolution without modulation; stride 1, padding 1, one deformable group.

    A sample at y <= -1, y >= H, x <= -1 or x >= W is 0; neighbours outside the image count as 0.

    Args:
        features: (N, C, H, W).
        offsets: (N, 18, H, W) pixels; of tap t = 3 ky + kx, channel 2 t is dy and 2 t + 1 is dx.
        weight: (O, C, 3, 3).
        bias: (O,) or None.

    Returns:
        (N, O, H, W).
    """
    if torch.is_grad_enabled():  # the operator has no backward
        if features.is_cuda:
            return deform_conv2d_torchvision(features, offsets, weight, bias)
        return _deform_conv2d_gather(features, offsets, weight, bias)
    return torch.ops.upsnet.deform_conv2d(features, offsets, weight, bias)  # type: ignore[no-any-return]


def deform_conv2d_torchvision(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The form on a device with gradients or without Triton, and the plain one.

    torchvision takes positions in the tensor's type: half precision would misplace samples by up to half a pixel.
    """
    bias32 = bias.float() if bias is not None else None
    out: Tensor = torchvision.ops.deform_conv2d(
        features.float(), offsets.float(), weight.float(), bias32, padding=(1, 1)
    )
    return out.to(features.dtype)


def _deform_conv2d_gather(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The CPU form: gather the four neighbours of each sample as a weighted embedding bag, then one matrix product.

    torchvision's CPU kernel runs on one thread, and its backward slower still. Rows are taken in chunks, so that the
    columns (9 C numbers a pixel) never exist whole; each is large enough for the matrix product and for all threads.
    """
    count, channels, height, width = features.shape
    table = _pixels_first(features).flatten(0, 1).float()  # (N H W, C)
    matrix = weight.permute(0, 2, 3, 1).reshape(-1, 9 * channels)  # (O, C, 3, 3) -> (O, 9 C)
    moves = _pixels_first(offsets).float().reshape(count * height, width, 9, 2)
    rows = max(4_000_000 // (9 * channels * width), 1)
    if torch.is_grad_enabled():  # autograd keeps the columns anyway
        columns = _columns(table, moves, 0, height, width).to(features.dtype)
        result = F.linear(columns, matrix, bias)
    else:
        result = features.new_empty((count * height * width, weight.size(0)))
        for start in range(0, count * height, rows):
            columns = _columns(table, moves[start : start + rows], start, height, width).to(features.dtype)
            pixels = columns[None, None].permute(0, 3, 1, 2)  # (1, 9 C, 1, P)
            part = F.conv2d(pixels, matrix[:, :, None, None], bias)  # its library multiplies faster than that of `mm`
            result[start * width : start * width + len(columns)] = part[0, :, 0].t()
    return result.view(count, height, width, -1).permute(0, 3, 1, 2)


def _columns(table: Tensor, moves: Tensor, start: int, height: int, width: int) -> Tensor:
    """(P, 9 C) samples of the P pixels of some rows; `table` (N H W, C) float32, the rest as of `_bilinear_samples`."""
    indices, weights = _bilinear_samples(moves, start, height, width)
    bags = torch.arange(0, indices.numel(), 4, dtype=indices.dtype, device=indices.device)
    return torch.embedding_bag(table, indices, bags, False, 0, False, weights)[0].view(-1, 9 * table.size(1))


def _pixels_first(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W, C), free where the maps are channels-last; else by a transposition of whole images."""
    if maps.size(0) == 0 or maps.is_contiguous(memory_format=torch.channels_last):
        return maps.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.stack([image.flatten(1).t().contiguous() for image in maps])


def _bilinear_samples(moves: Tensor, start: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows of the pixel table that each sample mixes, and their weights.

    Args:
        moves: (R, W, 9, 2) dy, dx of R image rows, counted through the batch from `start`.
        start: index of the first row.
        height: rows of one image.
        width: columns of one image.

    Returns:
        (4 * 9 * R * W,) int32 indices into the (N * H * W)-row table and as many float32 weights.
    """
    row = torch.arange(start, start + moves.size(0), device=moves.device)
    taps = torch.arange(9, device=moves.device)
    base_y = (row % height)[:, None, None] + torch.div(taps, 3, rounding_mode="floor") - 1  # (R, 1, 9)
    base_x = torch.arange(width, device=moves.device)[:, None] + taps % 3 - 1  # (W, 9)
    y = (moves[..., 0] + base_y).clamp(-1, height)  # beyond this every neighbour is outside
    x = (moves[..., 1] + base_x).clamp(-1, width)
    top, left = y.detach().floor(), x.detach().floor()
    dy, dx = y - top, x - left
    y0, x0 = top.int(), left.int()
    y1, x1 = y0 + 1, x0 + 1
    above, below = (1 - dy) * (y0 >= 0) * (y0 < height), dy * (y1 < height)
    before, after = (1 - dx) * (x0 >= 0) * (x0 < width), dx * (x1 < width)
    first = (torch.div(row, height, rounding_mode="floor") * height).int()[:, None, None]
    upper, lower = (first + y0.clamp(0, height - 1)) * width, (first + y1.clamp(max=height - 1)) * width
    x0, x1 = x0.clamp(0, width - 1), x1.clamp(max=width - 1)
    indices = torch.stack([upper + x0, upper + x1, lower + x0, lower + x1], dim=-1)
    weights = torch.stack([above * before, above * after, below * before, below * after], dim=-1)
    return indices.view(-1), weights.view(-1)


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed and finds the C compiler that it needs; says once where it is not so."""
    missing = ""
    if importlib.util.find_spec("triton") is None:
        missing = "Triton is not installed"
    elif not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        missing = "There is no C compiler for Triton (install gcc or clang, or name one in CC)"
    if missing:
        warnings.warn(
            f"{missing}: deformable convolutions and the panoptic head take their slower forms.",
            RuntimeWarning,
            stacklevel=2,
        )
    return not missing


def kernel(device: str) -> str:
    """The form of deformable convolutions that inference takes on a device: gather, triton or torchvision."""
    if not device.startswith("cuda"):
        return "gather"
    return "triton" if has_triton() else "torchvision"


def _deform_conv2d_cuda(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not has_triton():
        return deform_conv2d_torchvision(features, offsets, weight, bias)
    from model.kernels import deformable

    with torch.cuda.device(features.device):  # Triton launches on the current one
        return deformable.deform_conv2d(features, offsets, weight, bias)


def _panoptic_cuda(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from model.kernels import panoptic

    with torch.cuda.device(logits.device):
        return panoptic.panoptic(logits, *arguments)


def _reinterpret(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The same bits as another type; TorchScript takes the type in `Tensor.view` for a size."""
    return numbers.contiguous().clone().view(dtype)


def _nms_groups(boxes: Tensor, threshold: float) -> Tensor:
    """Greedy suppression within each group, group by group.

    Args:
        boxes: (G, K, 4) xyxy with exclusive ends, by descending score.
        threshold: only an IoU above it suppresses.

    Returns:
        (G, K) whether a box is kept.
    """
    keep = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    scores = torch.arange(boxes.size(1), 0, -1, dtype=torch.float32, device=boxes.device)
    for group, kept in zip(boxes, keep, strict=True):
        kept[torchvision.ops.nms(group, scores, threshold)] = True
    return keep


def _nms_cuda(boxes: Tensor, threshold: float) -> Tensor:
    if not has_triton():
        return _nms_groups(boxes, threshold)
    from model.kernels import regions

    with torch.cuda.device(boxes.device):
        return regions.nms(boxes, threshold)


def _roi_align_cuda(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    from model.kernels import regions

    with torch.cuda.device(rois.device):
        return regions.roi_align(features, rois, levels, size)


def _roi_align_gather(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """The CPU form: each bin is the weighted sum of the 16 pixels around its 4 samples, gathered as an embedding bag.

    torchvision's CPU kernel runs on one thread and wants the channels first. Arguments and result are those of
    `model.kernels.regions.roi_align`.
    """
    channels = features[0].size(1)
    result = features[0].new_empty((len(rois), size * size, channels))
    for k, level in enumerate(features):
        chosen = torch.where(levels == k)[0]
        if len(chosen) == 0:
            continue
        height, width = level.size(2), level.size(3)
        image, x1, y1, x2, y2 = (rois[chosen] * rois.new_tensor([1.0] + [0.25 / 2**k] * 4)).unbind(1)
        rows, down = _samples(y1, y2, size, height)
        columns, across = _samples(x1, x2, size, width)
        rows = (rows + image.int()[:, None, None] * height) * width
        indices = rows[:, :, None, :, None] + columns[:, None, :, None, :]  # (R, size, size, 4, 4)
        weights = down[:, :, None, :, None] * across[:, None, :, None, :] / 4
        bags = torch.arange(0, indices.numel(), 16, dtype=torch.int32, device=rois.device)
        table = _pixels_first(level).flatten(0, 1).float()
        pooled = torch.embedding_bag(table, indices.flatten(), bags, False, 0, False, weights.flatten())[0]
        result[chosen] = pooled.view(-1, size * size, channels).to(result.dtype)
    return result.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _samples(start: Tensor, stop: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Two samples a bin along one axis: (R, size, 4) int32 positions of both neighbours of each, and their weights."""
    step = ((stop - start).clamp(min=1) / size)[:, None, None]
    bins = torch.arange(size, device=start.device)[:, None]
    halves = (torch.arange(2, device=start.device) + 0.5) / 2
    at = start[:, None, None] + bins * step + halves * step  # (R, size, 2)
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    first = at.int()
    after = at - first
    positions = torch.stack([first, (first + 1).clamp(max=length - 1)], dim=-1)
    weights = torch.stack([1 - after, after], dim=-1) * inside[..., None]
    return positions.flatten(2), weights.flatten(2)


_LIBRARY.impl("deform_conv2d", _deform_conv2d_gather, "CPU")
_LIBRARY.impl("deform_conv2d", _deform_conv2d_cuda, "CUDA")
_LIBRARY.impl("has_kernels", lambda device: False, "CPU")  # noqa: ARG005
_LIBRARY.impl("has_kernels", lambda device: has_triton(), "CUDA")  # noqa: ARG005
_LIBRARY.impl("panoptic", _panoptic_cuda, "CUDA")
_LIBRARY.impl("reinterpret", _reinterpret, "CompositeExplicitAutograd")
_LIBRARY.impl("nms", _nms_groups, "CPU")
_LIBRARY.impl("nms", _nms_cuda, "CUDA")
_LIBRARY.impl("roi_align", _roi_align_gather, "CPU")
_LIBRARY.impl("roi_align", _roi_align_cuda, "CUDA")

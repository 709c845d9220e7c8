"""Deformable convolution, suppression and RoIAlign on a CPU: gathers as embedding bags, which run on all threads.

torchvision's kernels for a CPU run on one thread and take the channels first.
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

COLUMNS = 4_000_000  # numbers gathered at once: enough work for all threads, never all numbers of a large image


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """As `model.ops.deform_conv2d`, with a backward: samples are gathered, then multiplied as one matrix.

    Rows are taken in chunks, so that the 9 C samples of every pixel never exist at once. Samples have the type of the
    features, their sums are float32; with a backward they are float32.
    """
    count, channels, height, width = features.shape
    table = _pixels_first(features).flatten(0, 1)  # (N H W, C)
    matrix = weight.permute(0, 2, 3, 1).reshape(-1, 9 * channels)  # (O, C, 3, 3) -> (O, 9 C)
    moves = _pixels_first(offsets).float().reshape(count * height, width, 9, 2)
    rows = max(COLUMNS // (9 * channels * width), 1)
    if torch.is_grad_enabled():  # autograd keeps the samples anyway
        columns = _columns(table.float(), moves, 0, height, width).to(features.dtype)
        result = F.linear(columns, matrix, bias)
    else:
        result = features.new_empty((count * height * width, weight.size(0)))
        for start in range(0, count * height, rows):
            columns = _columns(table, moves[start : start + rows], start, height, width)
            pixels = columns[None, None].permute(0, 3, 1, 2)  # (1, 9 C, 1, P)
            part = F.conv2d(pixels, matrix[:, :, None, None], bias)  # a 1 x 1 convolution multiplies faster than `mm`
            result[start * width : start * width + len(columns)] = part[0, :, 0].t()
    result = F.relu_(result) if relu else result
    return result.view(count, height, width, weight.size(0)).permute(0, 3, 1, 2)


def _columns(table: Tensor, moves: Tensor, start: int, height: int, width: int) -> Tensor:
    """(P, 9 C) samples of the P pixels of some rows of the (N H W, C) table; see `_bilinear_samples`."""
    indices, weights = _bilinear_samples(moves, start, height, width)
    bags = torch.arange(0, indices.numel(), 4, dtype=indices.dtype, device=indices.device)
    found = torch.embedding_bag(table, indices, bags, False, 0, False, weights.to(table.dtype))[0]
    return found.view(-1, 9 * table.size(1))


def _pixels_first(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W, C): a view of channels-last maps, a transposed copy of others."""
    if maps.size(0) == 0 or maps.is_contiguous(memory_format=torch.channels_last):
        return maps.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.stack([image.flatten(1).t().contiguous() for image in maps])


def _bilinear_samples(moves: Tensor, start: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which rows of the pixel table each sample mixes, and with which weights.

    Args:
        moves: (R, W, 9, 2) offsets dy, dx of R image rows.
        start: the first of these rows, counted through the batch.
        height: rows of one image.
        width: columns of one image.

    Returns:
        (4 * 9 * R * W,) int32 indices into the (N * H * W)-row table and as many float32 weights.
    """
    row = torch.arange(start, start + moves.size(0), device=moves.device)
    taps = torch.arange(9, device=moves.device)
    base_y = (row % height)[:, None, None] + torch.div(taps, 3, rounding_mode="floor") - 1  # (R, 1, 9)
    base_x = torch.arange(width, device=moves.device)[:, None] + taps % 3 - 1  # (W, 9)
    y = (moves[..., 0] + base_y).nan_to_num(-1).clamp(-1, height)  # at and beyond this every neighbour is outside
    x = (moves[..., 1] + base_x).nan_to_num(-1).clamp(-1, width)
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


def nms(boxes: Tensor, threshold: float) -> Tensor:
    """As `model.ops.nms`, group by group."""
    kept = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    scores = torch.arange(boxes.size(1), 0, -1, dtype=torch.float32, device=boxes.device)
    for group, kept_of_group in zip(boxes, kept, strict=True):
        kept_of_group[torchvision.ops.nms(group, scores, threshold)] = True
    return kept


def roi_align(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """As `model.ops.roi_align`, forward only: each bin is a weighted sum of the 16 pixels around its 4 samples."""
    channels = features[0].size(1)
    result = features[0].new_empty((len(rois), size * size, channels))
    for k, level in enumerate(features):
        chosen = torch.where(levels == k)[0]
        if len(chosen) == 0:
            continue
        height, width = level.size(2), level.size(3)
        image, x1, y1, x2, y2 = (rois[chosen] * rois.new_tensor([1.0] + [0.25 / 2**k] * 4)).unbind(1)
        rows, down = _axis_samples(y1, y2, size, height)
        columns, across = _axis_samples(x1, x2, size, width)
        rows = (rows + image.int()[:, None, None] * height) * width
        indices = rows[:, :, None, :, None] + columns[:, None, :, None, :]  # (R, size, size, 4, 4)
        weights = down[:, :, None, :, None] * across[:, None, :, None, :] / 4
        bags = torch.arange(0, indices.numel(), 16, dtype=torch.int32, device=rois.device)
        table = _pixels_first(level).flatten(0, 1)
        mixed = weights.flatten().to(table.dtype)
        pooled = torch.embedding_bag(table, indices.flatten(), bags, False, 0, False, mixed)[0]
        result[chosen] = pooled.view(-1, size * size, channels)
    return result.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _axis_samples(start: Tensor, stop: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Two samples a bin along one axis: (R, size, 4) int32 positions of their neighbours, and (R, size, 4) weights."""
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

"""Boxes on a GPU: suppression in many groups at once, and RoIAlign of each box from its level."""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["count", "width"])
def _overlaps(boxes, words, count, width, threshold, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Bit j of words[group, i, w]: box i of the group suppresses box 32 w + j, which comes after it."""
    group, row = tl.program_id(0), tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(2) * 32 + tl.arange(0, 32)
    base = boxes + group.to(tl.int64) * count * 4
    mine, theirs = base + 4 * row, base + 4 * column
    known, other = row < count, column < count
    x1, y1 = tl.load(mine, mask=known, other=0.0), tl.load(mine + 1, mask=known, other=0.0)
    x2, y2 = tl.load(mine + 2, mask=known, other=0.0), tl.load(mine + 3, mask=known, other=0.0)
    u1, v1 = tl.load(theirs, mask=other, other=0.0), tl.load(theirs + 1, mask=other, other=0.0)
    u2, v2 = tl.load(theirs + 2, mask=other, other=0.0), tl.load(theirs + 3, mask=other, other=0.0)
    wide = tl.minimum(x2[:, None], u2[None, :]) - tl.maximum(x1[:, None], u1[None, :])
    high = tl.minimum(y2[:, None], v2[None, :]) - tl.maximum(y1[:, None], v1[None, :])
    shared = tl.maximum(wide, 0.0) * tl.maximum(high, 0.0)
    union = ((x2 - x1) * (y2 - y1))[:, None] + ((u2 - u1) * (v2 - v1))[None, :] - shared
    hits = (
        (tl.div_rn(shared, tl.where(union > 0, union, 1.0)) > threshold)
        & (column[None, :] > row[:, None])
        & other[None, :]
    )
    bits = tl.sum(hits.to(tl.int32) << tl.arange(0, 32)[None, :], 1)
    tl.store(words + (group.to(tl.int64) * count + row) * width + tl.program_id(2), bits, mask=known)


@triton.jit
def _either(a, b):  # type: ignore[no-untyped-def]
    return a | b


@triton.jit(do_not_specialize=["count", "width"])
def _suppress(words, keep, count, width, WORDS: tl.constexpr):  # type: ignore[no-untyped-def]
    """One group, 32 boxes at a time: a box that no better kept box suppresses is kept."""
    group = tl.program_id(0).to(tl.int64)
    lane, row = tl.arange(0, WORDS), tl.arange(0, 32)
    removed = tl.zeros((WORDS,), dtype=tl.int32)
    for block in range(width):
        box = 32 * block + row
        tile = words + ((group * count + box) * width)[:, None] + lane[None, :]
        tile = tl.load(tile, mask=(box < count)[:, None] & (lane < width)[None, :], other=0)  # (32, WORDS)
        among = tl.sum(tl.where(lane[None, :] == block, tile, 0), 1)  # what the 32 suppress of each other
        before = tl.sum(tl.where(lane == block, removed, 0), 0)
        found, last = before, ~before
        while found != last:  # each pass settles one bit more at least: bit k depends on lower ones alone
            last = found
            found = before | tl.reduce(tl.where(((last >> row) & 1) == 0, among, 0), 0, _either)
        kept = ((found >> row) & 1) == 0
        tl.store(keep + group * count + box, kept.to(tl.int8), mask=box < count)
        removed = removed | tl.reduce(tl.where(kept[:, None], tile, 0), 0, _either)


def nms(boxes: Tensor, threshold: float) -> Tensor:
    """As `model.ops.nms`: (G, K, 4) float32 by descending score -> (G, K) whether a box is kept."""
    groups, count, _ = boxes.shape
    keep = torch.empty((groups, count), dtype=torch.int8, device=boxes.device)
    width = triton.cdiv(count, 32)
    words = torch.empty((groups, count, width), dtype=torch.int32, device=boxes.device)
    if keep.numel() > 0:
        grid = (groups, triton.cdiv(count, 64), width)
        _overlaps[grid](boxes.contiguous(), words, count, width, threshold, 64, enable_fp_fusion=False)
        _suppress[(groups,)](
            words, keep, count, width, triton.next_power_of_2(width), num_warps=1, enable_fp_fusion=False
        )
    return keep.bool()


@triton.jit
def _sample(table, image, y, x, height, width, channel, channels, inside):  # type: ignore[no-untyped-def]
    """Channels at fractional positions (bilinear); 0 beyond one pixel outside the map."""
    inside = inside & (y >= -1.0) & (y <= height.to(tl.float32)) & (x >= -1.0) & (x <= width.to(tl.float32))
    y, x = tl.maximum(y, 0.0), tl.maximum(x, 0.0)
    top, left = tl.minimum(y.to(tl.int32), height - 1), tl.minimum(x.to(tl.int32), width - 1)
    bottom, right = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
    dy = tl.where(top >= height - 1, 0.0, y - top.to(tl.float32))[:, None]
    dx = tl.where(left >= width - 1, 0.0, x - left.to(tl.float32))[:, None]
    mask = inside[:, None] & (channel < channels)[None, :]
    upper, lower = (image * height + top).to(tl.int64) * width, (image * height + bottom).to(tl.int64) * width
    a = tl.load(table + (upper + left)[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(table + (upper + right)[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    c = tl.load(table + (lower + left)[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    d = tl.load(table + (lower + right)[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    return (1 - dy) * ((1 - dx) * a + dx * b) + dy * ((1 - dx) * c + dx * d)


@triton.jit
def _roi_align(  # type: ignore[no-untyped-def]
    p2,  # (N, h, w, C) each
    p3,
    p4,
    p5,
    rois,  # (R, 5) float32: image, x1, y1, x2, y2 in pixels
    levels,  # (R,) int32
    sizes,  # (4, 2) int32 heights and widths
    out,  # (R, size, size, C)
    channels,
    size,
    BINS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Some bins of one region: the mean of 2 x 2 samples each."""
    region = tl.program_id(0)
    level = tl.load(levels + region)
    table = p2
    if level == 1:
        table = p3
    if level == 2:
        table = p4
    if level == 3:
        table = p5
    height, width = tl.load(sizes + 2 * level), tl.load(sizes + 2 * level + 1)
    scale = 0.25 / (1 << level).to(tl.float32)
    image = tl.load(rois + 5 * region).to(tl.int32)
    x1, y1 = tl.load(rois + 5 * region + 1) * scale, tl.load(rois + 5 * region + 2) * scale
    wide = tl.maximum(tl.load(rois + 5 * region + 3) * scale - x1, 1.0) / size
    high = tl.maximum(tl.load(rois + 5 * region + 4) * scale - y1, 1.0) / size
    bin = tl.program_id(1) * BINS + tl.arange(0, BINS)
    inside = bin < size * size
    y, x = y1 + (bin // size) * high, x1 + (bin % size) * wide
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        total = tl.zeros((BINS, CHANNELS), dtype=tl.float32)
        for i in range(4):
            v, u = y + (i // 2 + 0.5) * high / 2, x + (i % 2 + 0.5) * wide / 2
            total += _sample(table, image, v, u, height, width, channel, channels, inside)
        place = out + (region.to(tl.int64) * size * size + bin)[:, None] * channels + channel[None, :]
        written = inside[:, None] & (channel < channels)[None, :]
        tl.store(place, (total / 4).to(out.dtype.element_ty), mask=written)


def roi_align(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    """As `model.ops.roi_align`, forward only; the result is channels-last."""
    tables = [level.permute(0, 2, 3, 1).contiguous() for level in features]  # free where they are channels-last
    channels = tables[0].size(3)
    out = tables[0].new_empty((len(rois), size, size, channels))
    if out.numel() > 0:
        sizes = _sizes(tuple((t.size(1), t.size(2)) for t in tables), rois.device)
        grid = (len(rois), triton.cdiv(size * size, 16))
        depth = min(max(triton.next_power_of_2(channels), 16), 128)
        arguments = (*tables, rois.contiguous(), levels.int(), sizes, out, channels, size)
        _roi_align[grid](*arguments, 16, depth, enable_fp_fusion=True)
    return out.permute(0, 3, 1, 2)


@functools.cache  # never dropped: a CUDA graph may read it
def _sizes(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """The sizes as a tensor on the device, copied there once for each set of sizes."""
    return torch.tensor(sizes, dtype=torch.int32, device=device)

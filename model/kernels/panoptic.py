"""The panoptic head on a device: one decision a pixel for a whole batch, without a logit at full size.

The arithmetic is that of `model.network.plain`, quirks Q4 to Q10 included.
"""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels import masks as thing_masks
from model.kernels.levels import enlarged
from model.kernels.masks import SIDE, lowest_bit, mask_logit, set_bits, stays

ROWS, COLUMNS = 8, 64  # of a tile
CLASSES, TILES = 8, 32  # whose bounds a program finds
LANES = 32  # classes, or instances, that are sorted out at once


@triton.jit(do_not_specialize=["overlap_bits"])
def _order(  # type: ignore[no-untyped-def]
    areas,
    taken,
    starts,  # (N + 1,) int32
    channels,  # (n,) int32: the channel of each candidate among its image's instances; -1 if it is dropped
    shown,  # (n,) int32: 0 absent, 1 semantic plane only (quirk Q6), 2 with its mask
    order,  # (n,) int64
    overlap_bits,
    COUNT: tl.constexpr,
):
    """One image: which candidates become instances, and in which order."""
    first = tl.load(starts + tl.program_id(0))
    place = tl.arange(0, COUNT)
    known = place < tl.load(starts + tl.program_id(0) + 1) - first
    kept = known & stays(areas, taken, first + place, known, overlap_bits)
    lone = (place == 0) & (tl.sum(kept.to(tl.int32), 0) == 0)  # quirks Q5, Q6
    kept = (kept | lone).to(tl.int32)
    channel = tl.cumsum(kept, 0) - 1
    dropped = (known & (kept == 0)).to(tl.int32)
    last = tl.sum(kept, 0) + tl.cumsum(dropped, 0) - 1
    tl.store(channels + first + place, tl.where(kept > 0, channel, -1), mask=known)
    tl.store(shown + first + place, tl.where(lone, 1, 2 * kept), mask=known)
    tl.store(order + first + tl.where(kept > 0, channel, last), place.to(tl.int64), mask=known)


@triton.jit(do_not_specialize=["rows", "columns", "rows_of_tiles"])
def _bound(  # type: ignore[no-untyped-def]
    logits,  # (N S, h, w) float32
    bounds,  # (N, tiles, S, 2) float32: highest and lowest logit that a tile is enlarged from
    classes,
    rows,
    columns,
    rows_of_tiles,
    CLASSES: tl.constexpr,
    TILES: tl.constexpr,
    CELLS_Y: tl.constexpr,
    CELLS_X: tl.constexpr,
):
    """Some tiles, side by side, of some classes of one image."""
    k = tl.program_id(0) * CLASSES + tl.arange(0, CLASSES)
    known = k < classes
    image = tl.program_id(2) // rows_of_tiles
    down = tl.program_id(2) % rows_of_tiles
    planes = logits + (image.to(tl.int64) * classes + tl.minimum(k, classes - 1)) * rows * columns
    tile = tl.program_id(1) * TILES + tl.arange(0, TILES)
    across = tl.cdiv(columns, CELLS_X)
    inner = tl.minimum(tl.program_id(1) * TILES * CELLS_X + tl.arange(0, TILES * CELLS_X), columns - 1)
    before = tl.maximum(tl.minimum(tile * CELLS_X, columns) - 1, 0)
    after = tl.minimum(tile * CELLS_X + CELLS_X, columns - 1)
    high = tl.full((CLASSES, TILES * CELLS_X), float("-inf"), dtype=tl.float32)
    low = tl.full((CLASSES, TILES * CELLS_X), float("inf"), dtype=tl.float32)
    beside = tl.full((CLASSES, TILES), float("-inf"), dtype=tl.float32)
    below = tl.full((CLASSES, TILES), float("inf"), dtype=tl.float32)
    for i in tl.static_range(-1, CELLS_Y + 1):
        row = planes[:, None] + tl.minimum(tl.maximum(down * CELLS_Y + i, 0), rows - 1) * columns
        values = tl.load(row + inner[None, :])
        left, right = tl.load(row + before[None, :]), tl.load(row + after[None, :])
        high, low = tl.maximum(high, values), tl.minimum(low, values)
        beside = tl.maximum(beside, tl.maximum(left, right))
        below = tl.minimum(below, tl.minimum(left, right))
    high = tl.maximum(tl.max(tl.reshape(high, (CLASSES, TILES, CELLS_X)), 2), beside)
    low = tl.minimum(tl.min(tl.reshape(low, (CLASSES, TILES, CELLS_X)), 2), below)
    place = (tl.program_id(2).to(tl.int64) * across + tile[None, :]) * classes + k[:, None]
    written = known[:, None] & (tile < across)[None, :]
    tl.store(bounds + 2 * place, high, mask=written)
    tl.store(bounds + 2 * place + 1, low, mask=written)


@triton.jit
def _best_class(  # type: ignore[no-untyped-def]
    planes, bounds, first, last, y, x, rows, columns, inside, CLASSES: tl.constexpr, LANES: tl.constexpr
):
    """The highest logit of classes first:last at each pixel, and its class, the first of equal ones.

    An enlarged logit lies between those that it comes from. So a class loses everywhere in the tile if its highest is
    below the lowest of another; only the others are enlarged.
    """
    k = tl.arange(0, CLASSES)
    known = (k >= first) & (k < last)
    high = tl.load(bounds + 2 * k, mask=known, other=0.0)
    low = tl.load(bounds + 2 * k + 1, mask=known, other=0.0)
    slack = 1e-6 * tl.max(tl.maximum(tl.abs(high), tl.abs(low)), 0)  # an enlarged logit is rounded
    floor = tl.max(tl.where(known, low, float("-inf")), 0) - slack
    best = tl.full(y.shape, float("-inf"), dtype=tl.float32)
    index = tl.zeros(y.shape, dtype=tl.int32)
    for start in range(first, last, LANES):
        some = start + tl.arange(0, LANES)
        highest = tl.load(bounds + 2 * some, mask=some < last, other=float("-inf"))
        bits = set_bits((some < last) & ((highest < floor) == 0), LANES)  # a NaN never loses
        while bits != 0:
            each = start + lowest_bit(bits)
            bits = bits & (bits - 1)
            value = enlarged(planes + each * rows * columns, y, x, rows, columns, inside, 0.25)
            index = tl.where(value > best, each, index)
            best = tl.maximum(best, value)
    return best, index


@triton.jit
def _bid(  # type: ignore[no-untyped-def]
    planes, masks, row, scale, i, show, stuff, y, x, rows, columns, inside, SIDE: tl.constexpr
):
    """Semantic and mask logit of one instance at each pixel of a tile; 0 outside its box."""
    top, left, kind = tl.load(row), tl.load(row + 1), tl.load(row + 6)
    bottom, right = tl.load(row + 4), tl.load(row + 5)  # of the semantic plane
    mask_bottom, mask_right = top + tl.where(show > 1, tl.load(row + 2), 0), left + tl.load(row + 3)
    after = inside & (y >= top) & (x >= left)
    covered = after & (y < bottom) & (x < right)
    source = planes + (stuff - 1 + kind) * rows * columns
    plane = tl.where(covered, enlarged(source, y, x, rows, columns, covered, 0.25), 0.0)
    masked = after & (y < mask_bottom) & (x < mask_right)
    logit = mask_logit(masks, i, y - top, x - left, tl.load(scale), tl.load(scale + 1), masked, SIDE)
    return plane, tl.where(masked, logit, 0.0)


@triton.jit
def _reaching(  # type: ignore[no-untyped-def]
    windows, shown, i, known, first_y, first_x, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Which of some candidates are instances that reach into a tile; also which are instances that do not."""
    row = windows + 8 * i
    show = tl.load(shown + i, mask=known, other=0)
    top, left = tl.load(row, mask=known, other=0), tl.load(row + 1, mask=known, other=0)
    mask_bottom = top + tl.where(show > 1, tl.load(row + 2, mask=known, other=0), 0)
    mask_right = left + tl.load(row + 3, mask=known, other=0)
    bottom = tl.maximum(tl.load(row + 4, mask=known, other=0), mask_bottom)
    right = tl.maximum(tl.load(row + 5, mask=known, other=0), mask_right)
    reaches = (first_y < bottom) & (first_x < right) & (first_y + ROWS > top) & (first_x + COLUMNS > left)
    reaches = reaches & (tl.load(row + 6, mask=known, other=0) > 0)
    return (show > 0) & reaches, (show > 0) & (reaches == 0)


@triton.jit
def _best_instance(  # type: ignore[no-untyped-def]
    planes, masks, windows, scales, channels, shown, start, end, stuff, y, x, rows, columns, inside, first_y, first_x,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """The highest logit of the instances start:end at each pixel, its channel, and the highest without the masks.

    Outside its box an instance has 0, and competes there (quirk Q4): of those that do not reach into the tile, the
    first is enough.
    """
    nobody = 1 << 20
    outside = nobody
    for first in range(start, end, LANES):
        i = first + tl.arange(0, LANES)
        _, away = _reaching(windows, shown, i, i < end, first_y, first_x, ROWS, COLUMNS)
        channel = tl.load(channels + i, mask=away, other=nobody)
        outside = tl.minimum(outside, tl.min(tl.where(away, channel, nobody), 0))
    best = tl.full(y.shape, float("-inf"), dtype=tl.float32)
    best = tl.where(outside < nobody, 0.0, best)
    winner = tl.zeros(y.shape, dtype=tl.int32) + outside
    plane_best = best
    for first in range(start, end, LANES):
        i = first + tl.arange(0, LANES)
        near, _ = _reaching(windows, shown, i, i < end, first_y, first_x, ROWS, COLUMNS)
        bits = set_bits(near, LANES)
        while bits != 0:
            each = first + lowest_bit(bits)
            bits = bits & (bits - 1)
            plane, mask = _bid(
                planes, masks, windows + 8 * each, scales + 2 * each, each, tl.load(shown + each), stuff, y, x, rows,
                columns, inside, SIDE,
            )  # fmt: skip
            plane_best = tl.maximum(plane_best, plane)  # quirk Q9: without the mask
            value = plane + mask
            channel = tl.load(channels + each)
            wins = (value > best) | ((value == best) & (channel < winner))  # the first of equal ones
            winner = tl.where(wins, channel, winner)
            best = tl.maximum(best, value)
    return best, winner, plane_best


@triton.jit(do_not_specialize=["rows", "columns"])  # one compilation for all sizes of pictures
def _decide(  # type: ignore[no-untyped-def]
    logits,  # (N, S, h, w) float32
    bounds,
    masks,
    windows,
    scales,
    channels,
    shown,
    starts,
    segments,  # (N, 4 h, 4 w) uint8
    semantic,  # the same
    classes,
    stuff,
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
    LANES: tl.constexpr,
    SIDE: tl.constexpr,
):
    """One tile of one image: the best of stuff, of things and of instances, then void."""
    image = tl.program_id(2)
    pixel = tl.arange(0, ROWS * COLUMNS)
    first_y, first_x = tl.program_id(1) * ROWS, tl.program_id(0) * COLUMNS
    y, x = first_y + pixel // COLUMNS, first_x + pixel % COLUMNS
    inside = (y < 4 * rows) & (x < 4 * columns)
    planes = logits + image.to(tl.int64) * classes * rows * columns
    tile = (image.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    bounds += 2 * tile * classes
    stuff_best, stuff_index = _best_class(planes, bounds, 0, stuff, y, x, rows, columns, inside, CLASSES, LANES)
    thing_best, thing_index = _best_class(planes, bounds, stuff, classes, y, x, rows, columns, inside, CLASSES, LANES)
    best, winner, plane_best = _best_instance(
        planes, masks, windows, scales, channels, shown, tl.load(starts + image), tl.load(starts + image + 1), stuff,
        y, x, rows, columns, inside, first_y, first_x, ROWS, COLUMNS, LANES, SIDE,
    )  # fmt: skip
    chosen = tl.where(best > stuff_best, stuff + winner, stuff_index)
    chosen = tl.where(thing_best - plane_best > tl.maximum(best, stuff_best), 255, chosen)
    place = (image.to(tl.int64) * 4 * rows + y) * 4 * columns + x
    tl.store(segments + place, chosen.to(tl.uint8), mask=inside)
    seen = tl.where(thing_best > stuff_best, thing_index, stuff_index)
    tl.store(semantic + place, seen.to(tl.uint8), mask=inside)


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
    """As `model.ops.panoptic`."""
    images, kinds, rows, columns = logits.shape
    starts, firsts = _starts(counts, logits.device)
    placed = thing_masks.place(boxes, masks, classes, firsts)
    areas, taken = thing_masks.count(placed, max_per_class, float_bits(overlap), (4 * rows, 4 * columns))
    channels, shown = torch.empty((2, len(boxes)), dtype=torch.int32, device=logits.device)
    order = torch.empty(len(boxes), dtype=torch.int64, device=logits.device)
    most = max(triton.next_power_of_2(max(counts)), 128)
    _order[(images,)](areas, taken, starts, channels, shown, order, float_bits(overlap), most)
    segments, semantic = torch.empty((2, images, 4 * rows, 4 * columns), dtype=torch.uint8, device=logits.device)
    grid = (triton.cdiv(4 * columns, COLUMNS), triton.cdiv(4 * rows, ROWS), images)
    logits = logits.contiguous()
    bounds = torch.empty((images, grid[1] * grid[0], kinds, 2), dtype=torch.float32, device=logits.device)
    plan = (triton.cdiv(kinds, CLASSES), triton.cdiv(grid[0], TILES), images * grid[1])
    _bound[plan](logits, bounds, kinds, rows, columns, grid[1], CLASSES, TILES, ROWS // 4, COLUMNS // 4)
    given = (logits, bounds, *placed[:3], channels, shown, starts, segments, semantic, kinds, stuff, rows, columns)
    constants = (ROWS, COLUMNS, triton.next_power_of_2(kinds), LANES, SIDE)
    _decide[grid](*given, *constants, enable_fp_fusion=False)
    return segments, semantic, order


def _starts(counts: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each image's candidates start, (N + 1,) int32, and the first candidate of each one's image, (n,) int32."""
    starts, firsts = [0], []
    for count in counts:
        firsts += [starts[-1]] * count
        starts.append(starts[-1] + count)
    numbers = torch.tensor(starts + firsts, dtype=torch.int32, pin_memory=device.type == "cuda")
    numbers = numbers.to(device, non_blocking=True)
    return numbers[: len(starts)], numbers[len(starts) :]


def float_bits(number: float) -> int:
    """The bits of a float64, for a kernel."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])

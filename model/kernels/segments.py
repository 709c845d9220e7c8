"""The segments of the answer on a device: five launches for a whole batch, and no wait of the host.

The arithmetic is that of `model.kernels.segments_cpu`, quirks Q5, Q14 and Q15 included.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.stuff_scores import add_softmax

ROWS, COLUMNS = 16, 32  # of a tile of pixels; one warp each, so that counting needs no barrier
CLASSES = 16  # that a program loads at once

# Counters of an image, 256 int32 each. The first 256 are the pixels of each channel by semantic class.
SIDES = tl.constexpr(256)  # of each channel, see `_extend`: four
AREAS = tl.constexpr(260)  # of each semantic class
SEEN = tl.constexpr(261)  # whether a semantic class is a segment of stuff
STUFF_IDS = tl.constexpr(262)  # id of each semantic class, if it is one
ID_AREAS = tl.constexpr(263)  # of each segment
ID_SIDES = tl.constexpr(264)  # of each segment: four
COUNTERS = tl.constexpr(268)


@triton.jit
def _source(steps, scale, length):  # type: ignore[no-untyped-def]
    """Nearest row of the resized image for rows at the original size, as `source_indices`; so with columns."""
    return tl.minimum((steps.to(tl.float64) * scale).to(tl.int32), length - 1)


@triton.jit
def _place(facts, image, y, x, height, width):  # type: ignore[no-untyped-def]
    """Where a padded map of the batch has the pixels at rows y and columns x of the original size."""
    scale = tl.load(facts + 7)
    v = _source(y, scale, tl.load(facts + 2).to(tl.int32))
    u = _source(x, scale, tl.load(facts + 3).to(tl.int32))
    return image.to(tl.int64) * height * width + v * width + u


@triton.jit(do_not_specialize=["height", "width"])  # one compilation for all sizes of pictures
def _count(  # type: ignore[no-untyped-def]
    channel_map,  # (N, H, W) uint8
    semantic_map,  # the same
    facts,  # (N, 8) float64, see `segments`
    counters,  # (N, COUNTERS, 256) int32, zeros
    height,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Pixels of each channel by semantic class, and the box of each channel, of one tile at the original size.

    Most pixels of a tile are alike, so each kind is counted in the tile and added once.
    """
    image = tl.program_id(2)
    facts += 8 * image
    rows, columns = tl.load(facts + 4).to(tl.int32), tl.load(facts + 5).to(tl.int32)
    first_y, first_x = tl.program_id(1) * ROWS, tl.program_id(0) * COLUMNS
    if (first_y < rows) & (first_x < columns):
        pixel = tl.arange(0, ROWS * COLUMNS)
        y, x = first_y + pixel // COLUMNS, first_x + pixel % COLUMNS
        inside = (y < rows) & (x < columns)
        place = _place(facts, image, y, x, height, width)
        channel = tl.load(channel_map + place, mask=inside, other=0).to(tl.int32)
        key = 256 * channel + tl.load(semantic_map + place, mask=inside, other=0).to(tl.int32)
        key = tl.where(inside, key, -1)
        counters += image * COUNTERS * 256
        current = tl.max(key, 0)
        while current >= 0:
            equal = key == current
            tl.atomic_add(counters + current, tl.sum(equal.to(tl.int32), 0), sem="relaxed")
            sides = counters + SIDES * 256 + current // 256  # from zero, each side grows
            tl.atomic_max(sides, tl.max(tl.where(equal, columns - x, 0), 0), sem="relaxed")
            tl.atomic_max(sides + 256, tl.max(tl.where(equal, rows - y, 0), 0), sem="relaxed")
            tl.atomic_max(sides + 512, tl.max(tl.where(equal, x + 1, 0), 0), sem="relaxed")
            tl.atomic_max(sides + 768, tl.max(tl.where(equal, y + 1, 0), 0), sem="relaxed")
            key = tl.where(equal, -1, key)
            current = tl.max(key, 0)


@triton.jit
def _majority(counters, channel, kinds_count, CLASSES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Pixels of each channel, the most that one semantic class has of them, and that class, the first of equal ones."""
    area = tl.zeros((256,), dtype=tl.int32)
    best = tl.zeros((256,), dtype=tl.int64)  # count and the complement of the class
    for first in range(0, kinds_count, CLASSES):
        kind = first + tl.arange(0, CLASSES)
        block = tl.load(counters + 256 * channel[:, None] + kind[None, :])
        area += tl.sum(block, 1)
        best = tl.maximum(best, tl.max(256 * block.to(tl.int64) + 255 - kind[None, :], 1))
    return area, (best // 256).to(tl.int32), 255 - (best % 256).to(tl.int32)


@triton.jit(do_not_specialize=["kinds_count", "stuff", "area_limit"])
def _merge(  # type: ignore[no-untyped-def]
    facts,
    counters,
    order,  # (n,) int64
    candidate_classes,  # (n,) int64
    kinds,  # (N, 256) uint8: semantic class of each channel
    ids,  # (N, 256) uint8: segment of each channel
    sums,  # (N, 2, 256) float64
    kinds_count,
    stuff,
    area_limit,
    CLASSES: tl.constexpr,
):
    """Class and segment of each channel of one image; areas and boxes of its segments; zeros in `sums`."""
    image = tl.program_id(0)
    facts += 8 * image
    counters += image * COUNTERS * 256
    channel = tl.arange(0, 256)
    area, count, majority = _majority(counters, channel, kinds_count, CLASSES)
    start, instances = tl.load(facts).to(tl.int32), tl.load(facts + 1).to(tl.int32)
    is_instance = (channel >= stuff) & (channel < stuff + instances)
    candidate = tl.load(order + start + channel - stuff, mask=is_instance, other=0)
    named = tl.load(candidate_classes + start + candidate, mask=is_instance, other=0).to(tl.int32)
    wanted = tl.where(named > 0, stuff - 1 + named, 255)  # quirk Q5
    turns = (majority != wanted) & (2 * count >= area) & (majority < stuff)  # quirk Q14
    kind = tl.where(channel < stuff, channel, tl.where(turns, majority, wanted))
    kind = tl.where(channel == 255, 255, kind)
    tl.atomic_add(counters + AREAS * 256 + kind, area)
    tl.debug_barrier()
    small = (kind < stuff) & (tl.load(counters + AREAS * 256 + kind) < area_limit)  # quirk Q15
    kind = tl.where(small, 255, kind)
    visible = (area > 0) & (kind < 255)
    thing = visible & (kind >= stuff)
    tl.store(counters + SEEN * 256 + kind, 1, mask=visible & (kind < stuff))
    tl.debug_barrier()
    things = tl.cumsum(thing.to(tl.int32), 0)
    stuff_ids = tl.sum(thing.to(tl.int32), 0) + tl.cumsum(tl.load(counters + SEEN * 256 + channel), 0)
    tl.store(counters + STUFF_IDS * 256 + channel, stuff_ids)
    tl.debug_barrier()
    number = tl.where(thing, things, tl.load(counters + STUFF_IDS * 256 + kind))
    number = tl.where(visible, number, 0)
    tl.atomic_add(counters + ID_AREAS * 256 + number, area, mask=visible)
    for side in range(4):
        reach = tl.load(counters + (SIDES + side) * 256 + channel)
        tl.atomic_max(counters + (ID_SIDES + side) * 256 + number, reach, mask=visible)
    tl.store(kinds + 256 * image + channel, kind.to(tl.uint8))
    tl.store(ids + 256 * image + channel, number.to(tl.uint8))
    tl.store(sums + 512 * image + channel, tl.zeros((256,), dtype=tl.float64))
    tl.store(sums + 512 * image + 256 + channel, tl.zeros((256,), dtype=tl.float64))


@triton.jit(do_not_specialize=["height", "width"])
def _write(  # type: ignore[no-untyped-def]
    channel_map, facts, ids, packed, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Segment ids of one tile at the original size."""
    image = tl.program_id(2)
    facts += 8 * image
    rows, columns = tl.load(facts + 4).to(tl.int32), tl.load(facts + 5).to(tl.int32)
    pixel = tl.arange(0, ROWS * COLUMNS)
    y, x = tl.program_id(1) * ROWS + pixel // COLUMNS, tl.program_id(0) * COLUMNS + pixel % COLUMNS
    inside = (y < rows) & (x < columns)
    channel = tl.load(channel_map + _place(facts, image, y, x, height, width), mask=inside, other=0).to(tl.int32)
    number = tl.load(ids + 256 * image + channel, mask=inside, other=0)
    tl.store(packed + tl.load(facts + 6).to(tl.int64) + y * columns + x, number, mask=inside)


@triton.jit(do_not_specialize=["stuff"])
def _tabulate(  # type: ignore[no-untyped-def]
    facts,
    counters,
    order,
    candidate_scores,  # (n,) float32
    kinds,
    ids,
    sums,
    tables,  # (N, 256, 7) float64
    stuff,
):
    """The table of one image."""
    image = tl.program_id(0)
    facts += 8 * image
    counters += image * COUNTERS * 256
    lane = tl.arange(0, 256)
    kind = tl.load(kinds + 256 * image + lane).to(tl.int32)
    number = tl.load(ids + 256 * image + lane).to(tl.int32)
    visible = number > 0
    thing = visible & (kind >= stuff)
    start = tl.load(facts).to(tl.int32)
    candidate = tl.load(order + start + lane - stuff, mask=thing, other=0)
    score = tl.load(candidate_scores + start + candidate, mask=thing, other=0.0)
    pixels = tl.maximum(tl.load(sums + 512 * image + 256 + kind), 1.0)
    mean = (tl.load(sums + 512 * image + kind) / pixels).to(tl.float32)
    tables += image * 256 * 7
    tl.store(tables + 7 * number, kind.to(tl.float64), mask=visible)  # channels that share an id write the same
    tl.store(tables + 7 * number + 1, tl.where(thing, score, mean).to(tl.float64), mask=visible)
    area = tl.load(counters + ID_AREAS * 256 + lane)  # from here on, a lane is a segment
    used = area > 0
    tl.store(tables + 7 * lane, tl.where(lane == 0, tl.max(number, 0), 0).to(tl.float64), mask=area == 0)
    tl.store(tables + 7 * lane + 1, tl.zeros((256,), dtype=tl.float64), mask=area == 0)
    tl.store(tables + 7 * lane + 2, area.to(tl.float64))
    for axis in range(2):
        first = tl.load(facts + 5 - axis).to(tl.int32) - tl.load(counters + (ID_SIDES + axis) * 256 + lane)
        length = tl.load(counters + (ID_SIDES + 2 + axis) * 256 + lane) - first
        tl.store(tables + 7 * lane + 3 + axis, tl.where(used, first, 0).to(tl.float64))
        tl.store(tables + 7 * lane + 5 + axis, tl.where(used, length, 0).to(tl.float64))


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
    """As `model.ops.segments`."""
    images, height, width = channels.shape
    kinds_count, device = logits.size(1), channels.device
    table_bytes = images * 256 * 7 * 8
    rows: list[list[float]] = []
    start, place = 0, table_bytes
    for i, scale in enumerate(torch.tensor(scales, dtype=torch.float32).tolist()):
        its_size, original = sizes[2 * i : 2 * i + 2], originals[2 * i : 2 * i + 2]
        rows.append([start, counts[i], *its_size, *original, place, scale])
        start, place = start + counts[i], place + original[0] * original[1]
    pinned = torch.tensor(rows, dtype=torch.float64, pin_memory=channels.is_cuda)  # other memory is waited for
    facts = pinned.to(device, non_blocking=True)
    counters = torch.zeros((images, COUNTERS.value, 256), dtype=torch.int32, device=device)
    kinds = torch.empty((images, 256), dtype=torch.uint8, device=device)
    ids = torch.empty_like(kinds)
    sums = torch.empty((images, 2, 256), dtype=torch.float64, device=device)
    packed = torch.empty(place, dtype=torch.uint8, device=device)
    tables = packed[:table_bytes].view(torch.float64)
    channels, scores = channels.contiguous(), scores.contiguous()
    tiles = (triton.cdiv(max(originals[1::2]), COLUMNS), triton.cdiv(max(originals[::2]), ROWS), images)
    _count[tiles](channels, semantic.contiguous(), facts, counters, height, width, ROWS, COLUMNS, num_warps=1)
    merged = (order, classes.contiguous(), kinds, ids, sums)
    _merge[(images,)](facts, counters, *merged, kinds_count, stuff, stuff_area_limit, CLASSES, num_warps=8)
    _write[tiles](channels, facts, ids, packed, height, width, ROWS, COLUMNS)
    add_softmax(channels, logits, facts, kinds, sums, sizes, stuff)
    _tabulate[(images,)](facts, counters, order, scores, kinds, ids, sums, tables, stuff)
    return packed

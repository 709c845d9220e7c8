"""How sure the network is of stuff, on a device: the softmax of its pixels, summed for each class."""

import triton
import triton.language as tl
from torch import Tensor

CELLS, CLASSES = 64, 16  # cells of 4 x 4 pixels that a program takes; classes that it loads at once


@triton.jit
def _normaliser(planes, kinds_count, plane, known, CELLS: tl.constexpr, CLASSES: tl.constexpr):  # type: ignore[no-untyped-def]
    """The highest logit of each cell, and the sum of the exponentials of the distances to it."""
    best = tl.full((CELLS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((CELLS,), dtype=tl.float32)
    for first in range(0, kinds_count, CLASSES):
        kind = (first + tl.arange(0, CLASSES))[:, None]
        value = tl.load(planes[None, :] + kind * plane, mask=(kind < kinds_count) & known[None, :], other=0.0)
        value = tl.where(kind < kinds_count, value, float("-inf"))
        higher = tl.maximum(best, tl.max(value, 0))
        total = total * tl.exp(best - higher) + tl.sum(tl.exp(value - higher[None, :]), 0)
        best = higher
    return best, total


@triton.jit(do_not_specialize=["kinds_count", "stuff", "height", "width"])
def _add_softmax(  # type: ignore[no-untyped-def]
    channel_map,
    logits,  # (N, S, H / 4, W / 4) float32
    facts,
    kinds,
    sums,
    kinds_count,
    stuff,
    height,
    width,
    CELLS: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Adds the softmax of each pixel's stuff class, and how many pixels there are: some cells of the resized image."""
    image = tl.program_id(1)
    facts += 8 * image
    rows, columns = tl.load(facts + 2).to(tl.int32), tl.load(facts + 3).to(tl.int32)
    across = (columns + 3) // 4
    cells = (rows + 3) // 4 * across
    if tl.program_id(0) * CELLS < cells:
        cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
        known = cell < cells
        v, u = cell // across, cell % across
        plane = (height // 4) * (width // 4)
        planes = logits + image.to(tl.int64) * kinds_count * plane + v * (width // 4) + u
        best, total = _normaliser(planes, kinds_count, plane, known, CELLS, CLASSES)
        part = tl.arange(0, 16)[None, :]
        y, x = 4 * v[:, None] + part // 4, 4 * u[:, None] + part % 4
        inside = known[:, None] & (y < rows) & (x < columns)
        place = image.to(tl.int64) * height * width + y * width + x
        channel = tl.load(channel_map + place, mask=inside, other=255).to(tl.int32)
        kind = tl.load(kinds + 256 * image + channel).to(tl.int32)
        kind = tl.where(inside & (kind < stuff), kind, -1)
        sums += 512 * image
        current = tl.max(tl.max(kind, 1), 0)
        while current >= 0:  # each kind once: most pixels are alike
            equal = kind == current
            pixels = tl.sum(equal.to(tl.int32), 1)
            value = tl.exp(tl.load(planes + current * plane, mask=known, other=0.0) - best) / total
            tl.atomic_add(sums + current, tl.sum(value.to(tl.float64) * pixels, 0), sem="relaxed")
            tl.atomic_add(sums + 256 + current, tl.sum(pixels, 0).to(tl.float64), sem="relaxed")
            kind = tl.where(equal, -1, kind)
            current = tl.max(tl.max(kind, 1), 0)


def add_softmax(
    channels: Tensor, logits: Tensor, facts: Tensor, kinds: Tensor, sums: Tensor, sizes: list[int], stuff: int
) -> None:
    """Add to `sums` (N, 2, 256) the softmax of the pixels of each class of stuff, and how many there are.

    Args:
        channels: (N, H, W) uint8, the channel of each pixel.
        logits: (N, S, H / 4, W / 4) float32.
        facts: (N, 8) float64, see `model.kernels.segments`.
        kinds: (N, 256) uint8, the semantic class of each channel.
        sums: float64, in place.
        sizes: height and width of each resized image in turn.
        stuff: number of stuff classes.
    """
    images, height, width = channels.shape
    cells = max(triton.cdiv(h, 4) * triton.cdiv(w, 4) for h, w in zip(sizes[::2], sizes[1::2], strict=True))
    given = (channels, logits.contiguous(), facts, kinds, sums, logits.size(1), stuff, height, width)
    _add_softmax[(triton.cdiv(cells, CELLS), images)](*given, CELLS, CLASSES)

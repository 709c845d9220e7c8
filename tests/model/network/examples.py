"""What the tests of several parts share: random inputs, and the deformable convolution one sample at a time."""

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.structures import Detections, Pyramid


def random_pyramid(channels: int, height: int, width: int) -> Pyramid:
    """Features of two images of this padded size."""
    return Pyramid(*(torch.randn(2, channels, height // stride, width // stride) for stride in (4, 8, 16, 32, 64)))


def boxes_of_two_images(count: int) -> list[Tensor]:
    """Random boxes of the first, up to a side of 500; of the second, one beyond 384 x 512 pixels, and two tiny ones."""
    a, b = 500 * torch.rand(count, 2), 500 * torch.rand(count, 2)
    tiny = torch.tensor([[0.0, 0, 0, 0], [500.0, 380, 511, 383]])
    return [
        torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=1),
        torch.cat([torch.tensor([[-30.0, -9, 700, 500]]), tiny]),
    ]


def detections(boxes: Tensor, mask_logits: Tensor, classes: Tensor) -> Detections:
    """Candidates of one image, by descending score."""
    return Detections(boxes, torch.ones(len(boxes)), classes, mask_logits, int(classes.bincount().max()))


def panoptic_case(seed: int, count: int, stuff: int = 5, things: int = 3) -> tuple[Tensor, Detections]:
    """Semantic logits (8, 24, 32) of an image of 96 x 128 pixels, and candidates; some are thinner than a pixel."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(stuff + things, 24, 32, generator=generator) - 0.5
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([127.0, 95.0])
    far = corner + torch.rand(count, 2, generator=generator) * 70 - 1
    far = torch.minimum(far, torch.tensor([127.0, 95.0]))
    masks = 3 * torch.randn(count, 1, 4, 4, generator=generator) + 1
    masks = F.interpolate(masks, (28, 28), mode="bilinear")[:, 0]
    classes = torch.randint(1, things + 1, (count,), generator=generator)
    return logits, detections(torch.cat([corner, far], 1), masks, classes)


def segments_case(
    seed: int, counts: list[int], stuff: int = 5, things: int = 3, block: int = 8, limit: int = 40
) -> tuple[Any, ...]:
    """Arguments of `ops.segments`: images padded to 32 x 64, resized by several factors, decided block by block.

    A block has one channel and one semantic class. Images with one candidate have the placeholder.
    """
    generator = torch.Generator().manual_seed(seed)
    grid, images = (32 // block, 64 // block), len(counts)
    drawn = torch.stack([torch.randint(0, stuff + count + 1, grid, generator=generator) for count in counts])
    channels = torch.where(drawn == stuff + torch.tensor(counts)[:, None, None], 255, drawn)
    semantic = torch.randint(0, stuff + things, (images, *grid), generator=generator)
    maps = [each.byte().repeat_interleave(block, 1).repeat_interleave(block, 2) for each in (channels, semantic)]
    logits = 3 * torch.randn(images, stuff + things, 8, 16, generator=generator)
    classes = [torch.randint(1, things + 1, (count,), generator=generator) * (count > 1) for count in counts]
    scores = torch.rand(sum(counts), generator=generator)
    order = torch.cat([torch.randperm(count, generator=generator) for count in counts])
    sizes = [side - (3 * i + seed) % 7 for i in range(images) for side in (32, 64)]
    scales = [(0.7, 1.0, 1.9)[(seed + i) % 3] for i in range(images)]
    originals = [round(side / scales[i // 2]) for i, side in enumerate(sizes)]
    return *maps, logits, torch.cat(classes), scores, order, counts, sizes, scales, originals, stuff, limit


def random_offsets(kind: str, *shape: int) -> Tensor:
    """Offsets of a deformable convolution: small, integer, over the border, far out, or partly no finite numbers."""
    offsets = torch.randn(*shape)
    strange = offsets.clone()
    strange.view(-1)[::20], strange.view(-1)[7::40], strange.view(-1)[9::40] = math.nan, math.inf, -math.inf
    far = offsets * 1e6
    return {"small": offsets, "integer": offsets.round(), "border": offsets * 3, "far": far, "strange": strange}[kind]


def deform_conv2d_by_samples(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Deformable convolution of one image in float64, one sample at a time; those at NaN or infinity are 0."""
    _, channels, height, width = features.shape
    out = torch.zeros(1, weight.size(0), height, width, dtype=torch.float64)
    for row, column, tap in itertools.product(range(height), range(width), range(9)):
        y = row + tap // 3 - 1 + float(offsets[0, 2 * tap, row, column])
        x = column + tap % 3 - 1 + float(offsets[0, 2 * tap + 1, row, column])
        if not math.isfinite(x + y):
            continue
        sample = torch.zeros(channels, dtype=torch.float64)
        for v, u in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            if 0 <= v < height and 0 <= u < width:
                sample += features[0, :, v, u].double() * (1 - abs(y - v)) * (1 - abs(x - u))
        out[0, :, row, column] += weight[:, :, tap // 3, tap % 3].double() @ sample
    return out

"""The segments of the answer on a CPU, and on a GPU without Triton: image by image, in tensor code.

Nothing here waits for a GPU: tensors have fixed sizes, with a row for each of 256 possible segments.
"""

import torch
from torch import Tensor


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
    """As `model.ops.segments`, image by image."""
    tables: list[Tensor] = []
    maps: list[Tensor] = []
    candidates = zip(classes.split(counts), scores.split(counts), order.split(counts), strict=True)
    for i, (its_classes, its_scores, its_order) in enumerate(candidates):
        size, original = (sizes[2 * i], sizes[2 * i + 1]), (originals[2 * i], originals[2 * i + 1])
        seen = to_original(channels[i], size, scales[i], original)
        joint = to_original(semantic[i], size, scales[i], original).flatten().long() + seen.flatten().long() * 256
        joint = histogram(joint, 65536).view(256, 256)
        category, is_instance = merge(joint, its_classes[its_order], stuff, stuff_area_limit)
        ids, count = number_segments(category, is_instance, joint.sum(1))
        segment_ids = ids[seen.long()]
        stuff_scores = mean_softmax(channels[i, : size[0], : size[1]], category, logits[i])
        instance = (torch.arange(256, device=ids.device) - stuff).clamp(0, len(its_order) - 1)
        channel_scores = torch.where(is_instance, its_scores[its_order][instance], stuff_scores[category])
        rows = torch.zeros((256, 7), dtype=torch.float64, device=ids.device)
        rows[ids, 0] = category.double()  # channels that share an id are of one class
        rows[ids, 1] = channel_scores.double()
        rows[:, 2] = torch.zeros_like(rows[:, 2]).index_add(0, ids, joint.sum(1).double())
        rows[:, 3:] = bounding_boxes(segment_ids).double()
        rows[0] = 0.0  # it is void's, whose numbers nobody reads
        rows *= (rows[:, 2:3] > 0).double()
        rows[0, 0] = count
        tables.append(rows.flatten().view(torch.uint8))
        maps.append(segment_ids.byte().flatten())
    return torch.cat(tables + maps)


def source_indices(length: int, scale: float, source_length: int, device: torch.device) -> Tensor:
    """Nearest source row of each of `length` rows: floor(row * scale), with the factor in float32."""
    exact = torch.full((), scale, dtype=torch.float32, device=device).double()  # filled there: no copy to wait for
    steps = torch.arange(length, dtype=torch.float64, device=device)
    return (steps * exact).long().clamp(max=source_length - 1)


def to_original(padded: Tensor, size: tuple[int, int], scale: float, original: tuple[int, int]) -> Tensor:
    """A padded (H, W) map cropped to the resized image, at exactly the original size, nearest (quirk Q7 not kept)."""
    rows = source_indices(original[0], scale, size[0], padded.device)
    columns = source_indices(original[1], scale, size[1], padded.device)
    return padded[rows][:, columns]


def merge(joint: Tensor, classes: Tensor, stuff: int, stuff_area_limit: int) -> tuple[Tensor, Tensor]:
    """The semantic class of each panoptic channel.

    An instance whose pixels the semantic head gives mostly to one stuff class becomes that stuff (quirk Q14).
    After that, stuff with fewer pixels than the limit becomes void (quirk Q15). The placeholder of class 0
    becomes stuff or void, never a segment of its own (quirk Q5).

    Args:
        joint: (256, 256) pixels by panoptic channel and semantic class.
        classes: (k,) detection class of each instance.
        stuff: number of stuff classes.
        stuff_area_limit: stuff with fewer pixels becomes void.

    Returns:
        (256,) semantic index of each channel, and (256,) whether it stays an instance.
    """
    channel = torch.arange(256, device=joint.device)
    count, majority = joint.max(1)
    is_instance = (channel >= stuff) & (channel < stuff + len(classes))
    wanted = torch.full_like(channel, 255)
    wanted[stuff : stuff + len(classes)] = torch.where(classes > 0, stuff - 1 + classes, 255)
    turns = (majority != wanted) & (2 * count >= joint.sum(1)) & (majority < stuff)
    category = torch.where(channel < stuff, channel, torch.where(turns, majority, wanted))
    category = torch.where(channel == 255, 255, category)
    is_instance = is_instance & ~turns & (category != 255)
    area = torch.zeros(256, dtype=torch.int64, device=joint.device).index_add(0, category, joint.sum(1))
    too_small = (category < stuff) & (area[category] < stuff_area_limit)
    return torch.where(too_small, 255, category), is_instance


def mean_softmax(channels: Tensor, category: Tensor, logits: Tensor) -> Tensor:
    """(256,) mean, over the pixels of each stuff class, of its softmax at stride 4.

    Args:
        channels: (h, w) panoptic channels of the resized image.
        category: (256,) semantic index of each channel.
        logits: (S, H / 4, W / 4) semantic logits.
    """
    kinds = category[channels.long()].flatten()
    rows = torch.div(torch.arange(channels.size(0), device=channels.device), 4, rounding_mode="floor")
    columns = torch.div(torch.arange(channels.size(1), device=channels.device), 4, rounding_mode="floor")
    cells = (rows[:, None] * logits.size(2) + columns).flatten()
    softmax = logits.softmax(0).flatten(1)  # (S, h w)
    total = histogram(kinds, 256, softmax[kinds.clamp(max=len(softmax) - 1), cells])
    return (total / histogram(kinds, 256).clamp(min=1)).float()


def number_segments(category: Tensor, is_instance: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
    """Give each segment an id from 1: instances in channel order, then stuff by semantic index.

    Args:
        category: (256,) semantic index of each channel, 255 for void.
        is_instance: (256,) whether the channel is an instance.
        area: (256,) pixels of each channel.

    Returns:
        (256,) segment id of each channel, 0 for void, and how many segments there are.
    """
    visible = (area > 0) & (category != 255)
    things, stuff = visible & is_instance, visible & ~is_instance
    kinds = torch.zeros_like(area).index_add(0, category, stuff.to(area.dtype)) > 0
    stuff_ids = things.sum() + kinds.cumsum(0)
    ids = torch.where(things, things.cumsum(0), torch.where(stuff, stuff_ids[category], 0))
    return ids, things.sum() + kinds.sum()


def bounding_boxes(segment_ids: Tensor) -> Tensor:
    """The box of each id in (H, W): (256, 4) int64 x, y, width, height; an id without a pixel gets the whole image."""
    height, width = segment_ids.size(0), segment_ids.size(1)
    in_row = torch.zeros((height, 256), dtype=torch.uint8, device=segment_ids.device).scatter(1, segment_ids, 1)
    in_column = torch.zeros((256, width), dtype=torch.uint8, device=segment_ids.device).scatter(0, segment_ids, 1)
    y, x = in_row.argmax(0), in_column.argmax(1)
    y_end, x_end = height - in_row.flip(0).argmax(0), width - in_column.flip(1).argmax(1)
    return torch.stack([x, y, x_end - x, y_end - y], dim=1)


def histogram(values: Tensor, bins: int, weights: Tensor | None = None) -> Tensor:
    """How often each of 0..bins - 1 occurs, or the sum of its weights in float64; a GPU is not waited for."""
    if not values.is_cuda:  # many times quicker there
        return torch.bincount(values, weights if weights is None else weights.double(), minlength=bins)
    ones = torch.ones_like(values) if weights is None else weights.double()
    return spread_histogram(values, bins, ones)


def spread_histogram(values: Tensor, bins: int, weights: Tensor, replicas: int = 32) -> Tensor:
    """Sums of the weights of each of 0..bins - 1, in their type.

    Most pixels have one of a few values, and a GPU's additions to one place wait for each other. So neighbours add to
    different replicas.
    """
    places = values + bins * (torch.arange(len(values), device=values.device) % replicas)
    sums = torch.zeros(replicas * bins, dtype=weights.dtype, device=values.device).index_add(0, places, weights)
    return sums.view(replicas, bins).sum(0)

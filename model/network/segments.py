"""From the panoptic head's decision to the segments of the answer."""

import torch
from torch import Tensor, nn

from model.network.structures import Panoptic, PanopticLogits


def source_indices(length: int, scale: float, source_length: int, device: torch.device) -> Tensor:
    """Nearest source row of each of `length` rows: floor(row * scale), with the factor in float32."""
    exact = torch.full((), scale, dtype=torch.float32, device=device).double()  # filled there: no copy to wait for
    steps = torch.arange(length, dtype=torch.float64, device=device)
    return (steps * exact).long().clamp(max=source_length - 1)


def to_original(padded: Tensor, size: tuple[int, int], scale: float, original: tuple[int, int]) -> Tensor:
    """Crop a (H, W) map to the resized image and bring it to exactly the original size, nearest (quirk Q7 not kept)."""
    rows = source_indices(original[0], scale, size[0], padded.device)
    columns = source_indices(original[1], scale, size[1], padded.device)
    return padded[rows][:, columns]


class Segments(nn.Module):
    """Merges semantic and panoptic maps into segments.

    Args:
        stuff: U, number of stuff classes.
        stuff_area_limit: stuff with fewer pixels, at the original size, becomes void.
    """

    def __init__(self, stuff: int, stuff_area_limit: int) -> None:
        super().__init__()
        self.stuff = stuff
        self.stuff_area_limit = stuff_area_limit

    def forward(
        self,
        decision: PanopticLogits,
        semantic_logits: Tensor,
        classes: Tensor,
        scores: Tensor,
        size: tuple[int, int],
        scale: float,
        original: tuple[int, int],
    ) -> Panoptic:
        """Segments of one image.

        Args:
            decision: of the panoptic head, at the padded size.
            semantic_logits: (S, H / 4, W / 4).
            classes: (n,) of the candidates.
            scores: (n,) of the candidates.
            size: height and width of the resized image.
            scale: factor it was resized by.
            original: height and width of the image as given.

        Returns:
            Segments at the original size, things first, by descending score; none for an image that is all void.
        """
        channels = to_original(decision.segments, size, scale, original)
        semantic = to_original(decision.semantic, size, scale, original)
        joint = torch.bincount(channels.flatten().long() * 256 + semantic.flatten().long(), minlength=65536)
        category, is_instance = self.merge(joint.view(256, 256), classes[decision.keep])
        ids, kinds, segment_channel = number_segments(category, is_instance, joint.view(256, 256).sum(1))
        segment_ids = ids[channels.long()]
        areas = torch.bincount(segment_ids.flatten(), minlength=len(kinds) + 1)[1:]
        stuff_scores = self.mean_softmax(decision.segments[: size[0], : size[1]], category, semantic_logits)
        thing = is_instance[segment_channel]
        thing_scores = scores[decision.keep][(segment_channel - self.stuff).clamp(0, len(decision.keep) - 1)]
        return Panoptic(
            segment_ids.byte(),
            kinds,
            torch.where(thing, thing_scores, stuff_scores[kinds]),
            areas,
            bounding_boxes(segment_ids, len(kinds)),
        )

    def merge(self, joint: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """What becomes of each panoptic channel.

        An instance whose pixels the semantic head gives mostly to one stuff class becomes that stuff (quirk Q14);
        stuff below the limit, counted after that, becomes void (quirk Q15). The placeholder of class 0 (quirk Q5)
        becomes stuff or void, never a segment of its own.

        Args:
            joint: (256, 256) pixels by panoptic channel and semantic class.
            classes: (k,) detection class of each instance.

        Returns:
            (256,) semantic index of each channel, and (256,) whether it stays an instance.
        """
        channel = torch.arange(256, device=joint.device)
        count, majority = joint.max(1)
        is_instance = (channel >= self.stuff) & (channel < self.stuff + len(classes))
        wanted = torch.full_like(channel, 255)
        wanted[self.stuff : self.stuff + len(classes)] = torch.where(classes > 0, self.stuff - 1 + classes, 255)
        turns = (majority != wanted) & (2 * count >= joint.sum(1)) & (majority < self.stuff)
        category = torch.where(channel < self.stuff, channel, torch.where(turns, majority, wanted))
        category = torch.where(channel == 255, 255, category)
        is_instance = is_instance & ~turns & (category != 255)
        area = torch.zeros(256, dtype=torch.int64, device=joint.device).index_add(0, category, joint.sum(1))
        too_small = (category < self.stuff) & (area[category] < self.stuff_area_limit)
        return torch.where(too_small, 255, category), is_instance

    def mean_softmax(self, channels: Tensor, category: Tensor, semantic_logits: Tensor) -> Tensor:
        """(256,) mean, over the pixels of each stuff class, of its softmax at stride 4.

        Args:
            channels: (h, w) panoptic channels of the resized image.
            category: (256,) semantic index of each channel.
            semantic_logits: (S, H / 4, W / 4).
        """
        kinds = category[channels.long()]
        rows = torch.div(torch.arange(channels.size(0), device=channels.device), 4, rounding_mode="floor")
        columns = torch.div(torch.arange(channels.size(1), device=channels.device), 4, rounding_mode="floor")
        cells = rows[:, None] * semantic_logits.size(2) + columns
        softmax = semantic_logits.softmax(0).flatten(1)  # (S, h w)
        valid = kinds < self.stuff
        kinds, cells = kinds[valid], cells[valid]
        total = torch.bincount(kinds, softmax[kinds, cells], minlength=256)
        return (total / torch.bincount(kinds, minlength=256).clamp(min=1)).float()


def number_segments(category: Tensor, is_instance: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give each segment an id from 1: instances in channel order, then stuff by semantic index.

    Args:
        category: (256,) semantic index of each channel, 255 for void.
        is_instance: (256,) whether the channel is an instance.
        area: (256,) pixels of each channel.

    Returns:
        (256,) segment id of each channel, (M,) semantic index of each segment, (M,) one channel of each segment.
    """
    present = (area > 0) & (category != 255)
    instances = torch.where(present & is_instance)[0]
    stuff = present & ~is_instance
    stuff_kinds = torch.unique(category[stuff])
    ids = torch.zeros(256, dtype=torch.int64, device=category.device)
    ids[instances] = torch.arange(1, len(instances) + 1, device=category.device)
    ids[stuff] = torch.searchsorted(stuff_kinds, category[stuff]) + 1 + len(instances)
    return ids, torch.cat([category[instances], stuff_kinds]), torch.cat([instances, stuff_kinds])


def bounding_boxes(segment_ids: Tensor, count: int) -> Tensor:
    """(H, W) ids 0..count -> (count, 4) int64 x, y, width, height of each segment; every id has a pixel."""
    height, width = segment_ids.size(0), segment_ids.size(1)
    in_row = torch.zeros((count + 1, height), dtype=torch.bool, device=segment_ids.device)
    in_column = torch.zeros((count + 1, width), dtype=torch.bool, device=segment_ids.device)
    in_row[segment_ids, torch.arange(height, device=segment_ids.device)[:, None]] = True
    in_column[segment_ids, torch.arange(width, device=segment_ids.device)] = True
    rows, columns = in_row[1:].byte(), in_column[1:].byte()
    y, x = rows.argmax(1), columns.argmax(1)
    y_end, x_end = height - rows.flip(1).argmax(1), width - columns.flip(1).argmax(1)
    return torch.stack([x, y, x_end - x, y_end - y], dim=1)

"""From the panoptic head's decision to the segments of the answer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import ops
from model.network.structures import Panoptic, PanopticDecision


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


class SegmentTable(NamedTuple):
    """The segments of one image in tensors of fixed sizes: the host need not know yet how many segments there are.

    Attributes:
        segment_ids: (H, W) uint8.
        rows: (256, 7) float64, row i of segment i: class, score, area, x, y, width, height. Row 0 has the number of
            segments in its first column.
    """

    segment_ids: Tensor
    rows: Tensor


def read_table(table: SegmentTable) -> Panoptic:
    """The segments of a table on the host."""
    rows = table.rows[1 : int(table.rows[0, 0].item()) + 1]
    whole = rows.long()
    return Panoptic(table.segment_ids, whole[:, 0], rows[:, 1].float(), whole[:, 2], whole[:, 3:])


def fetch(tables: list[SegmentTable]) -> list[SegmentTable]:
    """The same tables on the host, in one transfer."""
    parts: list[Tensor] = []
    for table in tables:
        parts += [ops.reinterpret(table.rows.flatten(), torch.uint8), table.segment_ids.flatten()]
    sizes = [part.numel() for part in parts]
    fetched = list(torch.cat(parts).cpu().split(sizes))
    results: list[SegmentTable] = []
    for i, table in enumerate(tables):
        rows = ops.reinterpret(fetched[2 * i], torch.float64).view(table.rows.shape)
        results.append(SegmentTable(fetched[2 * i + 1].view(table.segment_ids.shape), rows))
    return results


class Segments(nn.Module):
    """Merges semantic and panoptic maps into segments.

    Args:
        stuff: number of stuff classes (U).
        stuff_area_limit: stuff with fewer pixels at the original size becomes void.
    """

    def __init__(self, stuff: int, stuff_area_limit: int) -> None:
        super().__init__()
        self.stuff = stuff
        self.stuff_area_limit = stuff_area_limit

    def forward(
        self,
        decision: PanopticDecision,
        semantic_logits: Tensor,
        classes: Tensor,
        scores: Tensor,
        size: tuple[int, int],
        scale: float,
        original: tuple[int, int],
    ) -> SegmentTable:
        """Segments of one image.

        Args:
            decision: the panoptic head's, at the padded size.
            semantic_logits: (S, H / 4, W / 4).
            classes: (n,) classes of the candidates.
            scores: (n,) scores of the candidates.
            size: height and width of the resized image.
            scale: factor that the image was resized by.
            original: height and width of the image as given.

        Returns:
            Segments at the original size, things first, by descending score; none for an image that is all void.
        """
        channels = to_original(decision.channels, size, scale, original)
        semantic = to_original(decision.semantic, size, scale, original)
        joint = ops.histogram(channels.flatten().long() * 256 + semantic.flatten().long(), 65536).view(256, 256)
        category, is_instance = self.merge(joint, classes[decision.order])
        ids, count = number_segments(category, is_instance, joint.sum(1))
        segment_ids = ids[channels.long()]
        stuff_scores = self.mean_softmax(decision.channels[: size[0], : size[1]], category, semantic_logits)
        instance = (torch.arange(256, device=ids.device) - self.stuff).clamp(0, len(decision.order) - 1)
        channel_scores = torch.where(is_instance, scores[decision.order][instance], stuff_scores[category])
        rows = torch.zeros((256, 7), dtype=torch.float64, device=ids.device)
        rows[ids, 0] = category.double()  # channels that share an id are of one class
        rows[ids, 1] = channel_scores.double()
        rows[:, 2] = torch.zeros_like(rows[:, 2]).index_add(0, ids, joint.sum(1).double())
        rows[:, 3:] = bounding_boxes(segment_ids).double()
        rows[0, 0] = count
        return SegmentTable(segment_ids.byte(), rows)

    def merge(self, joint: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The semantic class of each panoptic channel.

        An instance whose pixels the semantic head gives mostly to one stuff class becomes that stuff (quirk Q14).
        After that, stuff with fewer pixels than the limit becomes void (quirk Q15). The placeholder of class 0
        becomes stuff or void, never a segment of its own (quirk Q5).

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
        kinds = category[channels.long()].flatten()
        rows = torch.div(torch.arange(channels.size(0), device=channels.device), 4, rounding_mode="floor")
        columns = torch.div(torch.arange(channels.size(1), device=channels.device), 4, rounding_mode="floor")
        cells = (rows[:, None] * semantic_logits.size(2) + columns).flatten()
        softmax = semantic_logits.softmax(0).flatten(1)  # (S, h w)
        total = ops.histogram(kinds, 256, softmax[kinds.clamp(max=len(softmax) - 1), cells])
        return (total / ops.histogram(kinds, 256).clamp(min=1)).float()


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

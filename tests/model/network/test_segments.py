"""Merging of semantic and panoptic maps, against the official rule and by hand."""

import pytest
import torch
from torch import Tensor

from model.network import plain
from model.network.segments import Segments, bounding_boxes, fetch, histogram, read_table, spread_histogram, to_original
from model.network.structures import Panoptic, PanopticLogits

LOGITS = torch.zeros(6, 8, 8)


def merge(channels: Tensor, semantic: Tensor, classes: list[int], limit: int, scores: list[float]) -> Panoptic:
    size = (channels.size(0), channels.size(1))
    decision = PanopticLogits(channels.byte(), semantic.byte(), torch.arange(len(classes)))
    module = Segments(3, limit)
    return read_table(module(decision, LOGITS, torch.tensor(classes), torch.tensor(scores), size, 1.0, size))


@pytest.mark.parametrize("seed", range(10))
def test_segments_are_those_of_the_official_merge(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 7, (4, 4), generator=generator)
    channels = torch.where(blocks == 6, 255, blocks).repeat_interleave(8, 0).repeat_interleave(8, 1)
    semantic = torch.randint(0, 6, (8, 8), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
    classes = [1, 3, 2]
    found = merge(channels, semantic, classes, 150, [0.9, 0.8, 0.7])
    official = plain.unify(semantic.byte(), channels.byte(), torch.tensor(classes), 3, 150)
    kinds = torch.cat([torch.tensor([255]), found.classes])[found.segment_ids.long()]
    assert torch.equal(kinds, official[..., 0].long())
    pairs = torch.stack([kinds, official[..., 1].long()], -1)[kinds != 255].unique(dim=0)
    assert len(pairs) == len(found.classes)


def test_a_thing_on_mostly_stuff_becomes_stuff_and_small_stuff_becomes_void() -> None:
    channels = torch.tensor([[0, 0, 0, 3], [0, 0, 3, 3], [1, 4, 4, 4], [255, 4, 4, 4]])
    semantic = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 5, 5, 5], [5, 5, 5, 5]])
    found = merge(channels, semantic, [1, 3], 2, [0.9, 0.8])
    assert found.segment_ids.tolist() == [[2, 2, 2, 2], [2, 2, 2, 2], [0, 1, 1, 1], [0, 1, 1, 1]]
    assert found.classes.tolist() == [5, 0]
    assert found.areas.tolist() == [6, 8]
    assert found.boxes.tolist() == [[1, 2, 3, 2], [0, 0, 4, 2]]
    torch.testing.assert_close(found.scores, torch.tensor([0.8, 1 / 6]))


def test_the_placeholder_is_never_a_segment() -> None:  # quirk Q5
    channels = torch.tensor([[0, 0, 3, 3]])
    assert merge(channels, torch.tensor([[0, 0, 1, 1]]), [0], 1, [1.0]).classes.tolist() == [0, 1]
    assert merge(channels, torch.tensor([[0, 0, 5, 5]]), [0], 1, [1.0]).segment_ids.tolist() == [[1, 1, 0, 0]]


def test_all_void_has_no_segments() -> None:
    found = merge(torch.full((3, 5), 255), torch.zeros(3, 5), [0], 1, [1.0])
    assert found.segment_ids.unique().tolist() == [0]
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.areas.shape == (0,)


def test_boxes_of_single_pixels() -> None:
    ids = torch.tensor([[0, 1, 0], [2, 0, 0]])
    assert bounding_boxes(ids)[1:3].tolist() == [[1, 0, 1, 1], [0, 1, 1, 1]]


def test_tables_of_several_sizes_cross_in_one_transfer() -> None:
    tables = []
    for height, width in ((5, 7), (3, 9)):
        channels = torch.arange(height * width).view(height, width) % 3
        decision = PanopticLogits(channels.byte(), channels.byte(), torch.arange(1))
        size = (height, width)
        tables.append(Segments(3, 1)(decision, LOGITS, torch.tensor([1]), torch.tensor([0.9]), size, 1.0, size))
    for table, fetched in zip(tables, fetch(tables), strict=True):
        assert torch.equal(fetched.segment_ids, table.segment_ids)
        assert torch.equal(fetched.rows, table.rows)
        assert read_table(fetched).classes.tolist() == [0, 1, 2]


def test_histogram_sums_in_float64() -> None:
    values, weights = torch.tensor([0, 2, 2]), torch.tensor([1.0, 1e8, 1.0])
    assert histogram(values, 4).tolist() == [1, 0, 2, 0]
    assert histogram(values, 4, weights).tolist() == [1, 0, 1e8 + 1, 0]


@pytest.mark.parametrize("count", [1, 31, 1000])
def test_a_histogram_of_replicas_is_the_same(count: int) -> None:
    torch.manual_seed(count)
    values, weights = torch.randint(0, 5, (count,)), torch.rand(count, dtype=torch.float64)
    found = spread_histogram(values, 7, torch.ones_like(values))
    assert found.dtype == torch.int64
    assert torch.equal(found, histogram(values, 7))
    torch.testing.assert_close(spread_histogram(values, 7, weights), histogram(values, 7, weights))


def test_the_original_size_is_met_exactly() -> None:
    padded = torch.arange(32 * 64).view(32, 64)
    shrunk = to_original(padded, (21, 33), 1 / 3, (64, 100))
    assert shrunk.shape == (64, 100)
    assert shrunk[3, 0] == padded[1, 0]
    assert shrunk[63, 99] == padded[20, 32]  # floor(99 / 3) would be one past the end

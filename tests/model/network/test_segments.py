"""Merging of semantic and panoptic maps, against the official rule and by hand."""

import pytest
import torch
from torch import Tensor

from model.archive import quiet
from model.network.segments import Segments, bounding_boxes, fetch, number_segments, read_table, to_original
from model.network.structures import Panoptic, PanopticDecision

LOGITS = torch.zeros(6, 8, 8)


def merge(channels: Tensor, semantic: Tensor, classes: list[int], limit: int, scores: list[float]) -> Panoptic:
    size = (channels.size(0), channels.size(1))
    decision = PanopticDecision(channels.byte(), semantic.byte(), torch.arange(len(classes)))
    module = Segments(3, limit)
    return read_table(module(decision, LOGITS, torch.tensor(classes), torch.tensor(scores), size, 1.0, size))


def official_merge(semantic: Tensor, channels: Tensor, classes: Tensor, stuff: int, stuff_area_limit: int) -> Tensor:
    """(H, W, 2) uint8 semantic index, 255 for void, and instance number, 0 for none: the official rule as it is stated.

    A detection whose pixels are mostly one stuff class turns into that (quirk Q14); then small stuff is dropped (Q15).
    """
    category = channels.clone()
    instance = torch.where(channels < stuff, 0, channels)
    for number, value in enumerate([int(v) for v in channels.unique() if v >= stuff], start=1):
        region = channels == value
        if value == 255:
            instance[region] = 0
            continue
        counts = torch.bincount(semantic[region].long(), minlength=256)
        majority = int(counts.argmax())
        wanted = stuff - 1 + int(classes[value - stuff])
        turns = majority != wanted and counts[majority] / counts.sum() >= 0.5 and majority < stuff
        category[region] = majority if turns else wanted
        instance[region] = 0 if turns else number
    for value in range(stuff):
        region = category == value
        if int(region.sum()) < stuff_area_limit:
            category[region] = 255
    return torch.stack([category, instance], dim=-1)


@pytest.mark.parametrize("seed", range(10))
def test_segments_are_those_of_the_official_merge(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 7, (4, 4), generator=generator)
    channels = torch.where(blocks == 6, 255, blocks).repeat_interleave(8, 0).repeat_interleave(8, 1)
    semantic = torch.randint(0, 6, (8, 8), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
    classes = [1, 3, 2]
    found = merge(channels, semantic, classes, 150, [0.9, 0.8, 0.7])
    official = official_merge(semantic.byte(), channels.byte(), torch.tensor(classes), 3, 150)
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
        decision = PanopticDecision(channels.byte(), channels.byte(), torch.arange(1))
        size = (height, width)
        tables.append(Segments(3, 1)(decision, LOGITS, torch.tensor([1]), torch.tensor([0.9]), size, 1.0, size))
    for table, fetched in zip(tables, fetch(tables), strict=True):
        assert torch.equal(fetched.segment_ids, table.segment_ids)
        assert torch.equal(fetched.rows, table.rows)
        assert read_table(fetched).classes.tolist() == [0, 1, 2]


def test_things_are_numbered_before_stuff_and_stuff_by_class() -> None:
    """Channels 0 and 1 are stuff, 2 to 4 instances: the first is unseen, the last has become stuff 0."""
    category, area = torch.full((256,), 255), torch.zeros(256, dtype=torch.int64)
    category[:5] = torch.tensor([0, 1, 2, 3, 0])
    area[:5] = torch.tensor([4, 4, 0, 4, 4])
    area[255] = 9
    is_instance = torch.zeros(256, dtype=torch.bool)
    is_instance[2:4] = True
    ids, count = number_segments(category, is_instance, area)
    assert ids[:5].tolist() == [2, 3, 0, 1, 2]
    assert int(ids[255]) == 0
    assert int(count) == 3


def test_stuff_is_scored_by_its_softmax_at_stride_4() -> None:
    """Left half: stuff 0 at logits (log 3, 0), a softmax of 3/4. Right half: stuff 1 at (0, 0), 1/2."""
    logits = torch.zeros(2, 1, 2)
    logits[0, 0, 0] = torch.tensor(3.0).log()
    channels = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]).byte().expand(4, 8)
    decision = PanopticDecision(channels, channels, torch.arange(1))
    module = Segments(2, 1)
    with quiet():
        scripted = torch.jit.script(module)
    for each in (module, scripted):
        table = each(decision, logits, torch.zeros(1, dtype=torch.int64), torch.ones(1), (4, 8), 1.0, (4, 8))
        torch.testing.assert_close(read_table(table).scores, torch.tensor([0.75, 0.5]))


def test_the_original_size_is_met_exactly() -> None:
    padded = torch.arange(32 * 64).view(32, 64)
    shrunk = to_original(padded, (21, 33), 1 / 3, (64, 100))
    assert shrunk.shape == (64, 100)
    assert shrunk[3, 0] == padded[1, 0]
    assert shrunk[63, 99] == padded[20, 32]  # floor(99 / 3) would be one past the end

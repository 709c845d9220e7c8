"""Merging of semantic and panoptic maps, against the official rule and by hand."""

import pytest
import torch
from torch import Tensor

from model.archive import quiet
from model.network.boxes import limits
from model.network.segments import Segments, unpack
from model.network.structures import Batch, Detections, Panoptic, PanopticDecision


def candidates(classes: list[int], scores: list[float]) -> Detections:
    nothing = torch.zeros(len(classes), 0)
    return Detections(nothing, torch.tensor(scores), torch.tensor(classes), nothing, 0)


def unscaled(sizes: list[tuple[int, int]]) -> Batch:
    """Images of these sizes that were not resized."""
    nothing = torch.zeros(0)
    return Batch(nothing, sizes, [1.0] * len(sizes), sizes, limits(sizes, nothing))


def merge(channels: Tensor, semantic: Tensor, classes: list[int], limit: int, scores: list[float]) -> Panoptic:
    decision = PanopticDecision(channels.byte()[None], semantic.byte()[None], torch.arange(len(classes)))
    batch = unscaled([(channels.size(0), channels.size(1))])
    packed = Segments(3, limit)(decision, torch.zeros(1, 6, 8, 8), [candidates(classes, scores)], batch)
    return unpack(packed, batch.original_sizes)[0]


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


def test_images_of_several_sizes_cross_in_one_transfer() -> None:
    sizes = [(5, 7), (3, 9)]
    channels = torch.zeros(2, 8, 12, dtype=torch.uint8)
    for each, (height, width) in zip(channels, sizes, strict=True):
        each[:height, :width] = (torch.arange(height * width) % 3).view(height, width)
    decision = PanopticDecision(channels, channels, torch.zeros(2, dtype=torch.int64))
    detections = [candidates([1], [0.9]), candidates([2], [0.8])]
    packed = Segments(3, 1)(decision, torch.zeros(2, 6, 2, 3), detections, unscaled(sizes))
    assert packed.shape == (2 * 256 * 7 * 8 + 5 * 7 + 3 * 9,)
    for found, each, (height, width) in zip(unpack(packed, sizes), channels, sizes, strict=True):
        assert found.classes.tolist() == [0, 1, 2]
        assert torch.equal(found.segment_ids, each[:height, :width] + 1)


def test_stuff_is_scored_by_its_softmax_at_stride_4() -> None:
    """Left half: stuff 0 at logits (log 3, 0), a softmax of 3/4. Right half: stuff 1 at (0, 0), 1/2."""
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0, 0, 0] = torch.tensor(3.0).log()
    channels = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]).byte().expand(1, 4, 8)
    decision = PanopticDecision(channels, channels, torch.arange(1))
    batch = unscaled([(4, 8)])
    module = Segments(2, 1)
    with quiet():
        scripted, scripted_unpack = torch.jit.script(module), torch.jit.script(unpack)
    for segments, read in ((module, unpack), (scripted, scripted_unpack)):
        found = read(segments(decision, logits, [candidates([0], [1.0])], batch), batch.original_sizes)[0]
        torch.testing.assert_close(found.scores, torch.tensor([0.75, 0.5]))

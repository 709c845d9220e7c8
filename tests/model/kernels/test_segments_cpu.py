"""The plain form of segments, its steps by hand; `tests/model/network/test_segments.py` has the whole by hand."""

import pytest
import torch

from model.kernels.segments_cpu import (
    bounding_boxes,
    histogram,
    number_segments,
    segments,
    source_indices,
    spread_histogram,
    to_original,
)
from tests.model.network.examples import segments_case


def test_images_of_a_batch_are_merged_apart() -> None:
    case = segments_case(0, [1, 3, 20])
    together = segments(*case)
    tables, maps = [], []
    candidates = zip(*(each.split([1, 3, 20]) for each in case[3:6]), strict=True)
    for i, (classes, scores, order) in enumerate(candidates):
        alone = segments(
            *(each[i : i + 1] for each in case[:3]), classes, scores, order, case[6][i : i + 1],
            case[7][2 * i : 2 * i + 2], case[8][i : i + 1], case[9][2 * i : 2 * i + 2], *case[10:],
        )  # fmt: skip
        tables.append(alone[: 256 * 7 * 8])
        maps.append(alone[256 * 7 * 8 :])
    assert torch.equal(together, torch.cat(tables + maps))


def test_rows_past_the_last_segment_are_zero() -> None:
    case = segments_case(1, [4])
    table = segments(*case)[: 256 * 7 * 8].view(torch.float64).view(256, 7)
    count = int(table[0, 0])
    assert count > 1
    assert int(table[0, 1:].count_nonzero() + table[count + 1 :].count_nonzero()) == 0
    assert bool((table[1 : count + 1, [1, 2, 5, 6]] > 0).all())


def test_it_works_on_the_device_of_its_input() -> None:
    case = segments_case(2, [1, 3])
    wanted = segments(*case)
    with torch.device("meta"):  # where anything lies that is made without naming a device
        assert torch.equal(segments(*case), wanted)


def test_boxes_of_single_pixels() -> None:
    ids = torch.tensor([[0, 1, 0], [2, 0, 0]])
    assert bounding_boxes(ids)[1:3].tolist() == [[1, 0, 1, 1], [0, 1, 1, 1]]


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


def test_the_original_size_is_met_exactly() -> None:
    padded = torch.arange(32 * 64).view(32, 64)
    shrunk = to_original(padded, (21, 33), 1 / 3, (64, 100))
    assert shrunk.shape == (64, 100)
    assert shrunk[3, 0] == padded[1, 0]
    assert shrunk[63, 99] == padded[20, 32]  # floor(99 / 3) would be one past the end


def test_the_factor_is_rounded_to_float32() -> None:
    """0.1 in float32 is a little more than 0.1, 0.3 in float64 a little less than three times it."""
    found = source_indices(31, 0.1, 100, torch.device("cpu"))
    assert found[[9, 10, 30]].tolist() == [0, 1, 3]
    assert source_indices(4, 1 / 3, 100, torch.device("cpu"))[3] == 1  # 1 / 3 in float32 is a little more


def test_a_histogram_sums_in_float64() -> None:
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

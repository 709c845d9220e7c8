"""Segments in Triton: on a device, or on CPU tensors in Triton's interpreter (see `tests/conftest.py`)."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import segments, segments_cpu
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import segments_case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ARGUMENTS = ("channels", "semantic", "logits", "classes", "scores", "order", "counts", "sizes", "scales", "originals")


def changed(case: tuple[Any, ...], **arguments: Any) -> tuple[Any, ...]:
    """A case with other arguments."""
    return *(arguments.get(name, each) for name, each in zip(ARGUMENTS, case, strict=False)), *case[-2:]


def both(case: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The tables of the kernels and of the plain form, (N, 256, 7) each; all but the scores is equal."""
    given = [each.to(DEVICE) if isinstance(each, Tensor) else each for each in case]
    ours, plain = segments.segments(*given).cpu(), segments_cpu.segments(*case)
    end = len(case[6]) * 256 * 7 * 8
    assert ours.shape == plain.shape
    assert torch.equal(ours[end:], plain[end:])
    tables = [each[:end].view(torch.float64).view(-1, 256, 7) for each in (ours, plain)]
    exact = [0, 2, 3, 4, 5, 6]
    assert torch.equal(tables[0][..., exact], tables[1][..., exact])
    torch.testing.assert_close(tables[0][..., 1], tables[1][..., 1], atol=1e-6, rtol=0)
    return tables[0], tables[1]


def test_they_run_well_on_devices_that_this_host_need_not_have() -> None:
    names = ["_count", "_merge", "_write", "_tabulate"]
    assert kernels_that_run_well("segments") == names


@pytest.mark.parametrize("seed", range(6))
def test_they_equal_the_plain_form_on_images_of_several_sizes(seed: int) -> None:
    tables, _ = both(segments_case(seed, [1, 3, 20]))
    assert bool((tables[:, 0, 0] > 1).all())


def test_each_pixel_may_be_of_another_kind() -> None:
    both(segments_case(6, [9], block=1))


def test_a_pixel_past_the_end_takes_the_last_one() -> None:
    """Column 99 lies at a third of it, 33, in a resized image of 33 columns."""
    both(changed(segments_case(14, [9], block=1), sizes=[21, 33], scales=[1 / 3], originals=[64, 100]))


@pytest.mark.parametrize(("stuff", "count"), [(1, 254), (250, 5), (254, 1)])
def test_a_full_map_has_all_its_segments(stuff: int, count: int) -> None:
    case = segments_case(8, [count], stuff=stuff, things=255 - stuff, block=1, limit=1)
    channels = torch.arange(32 * 64).reshape(1, 32, 64) % 255  # each of stuff and of the instances, and no void
    semantic = torch.where(channels < stuff, channels, stuff)  # no instance turns into stuff
    full = {"classes": 1 + torch.arange(count) % (255 - stuff), "sizes": [32, 64], "scales": [1.0]}
    case = changed(case, channels=channels.byte(), semantic=semantic.byte(), originals=[32, 64], **full)
    tables, _ = both(case)
    assert tables[0, 0, 0] == 255
    assert sorted(tables[0, 1:, 0].tolist())[:stuff] == list(range(stuff))


def test_an_image_may_have_two_hundred_things() -> None:
    case = segments_case(7, [200], stuff=53, things=80, block=2, limit=1)
    things = case[0] != 255
    channels = torch.where(things, 53 + torch.arange(32 * 64).view(1, 32, 64) // 8 % 200, 255).byte()
    tables, _ = both(changed(case, channels=channels, semantic=torch.full_like(channels, 60)))
    assert tables[0, 0, 0] == 200


@pytest.mark.parametrize(("size", "scale"), [([1, 1], 1.0), ([30, 29], 30.0)])
def test_an_image_may_have_one_pixel(size: list[int], scale: float) -> None:
    case = segments_case(8, [1, 2], limit=1)
    channels = case[0].clone()
    channels[1, 0, 0] = 2
    case = changed(case, channels=channels, sizes=[*case[7][:2], *size], originals=[*case[9][:2], 1, 1])
    tables, _ = both(changed(case, scales=[case[8][0], scale]))
    assert tables[1, :2, 0].tolist() == [1, 2]
    assert tables[1, 1, 2:].tolist() == [1, 0, 0, 1, 1]


def test_all_may_be_void() -> None:
    case = segments_case(9, [1, 2])
    tables, _ = both(changed(case, channels=torch.full_like(case[0], 255)))
    assert int(tables.count_nonzero()) == 0


@pytest.mark.parametrize("semantic", [1, 6])
def test_the_placeholder_becomes_stuff_or_void(semantic: int) -> None:  # quirk Q5
    case = segments_case(10, [1])
    tables, _ = both(changed(case, channels=torch.full_like(case[0], 5), semantic=torch.full_like(case[0], semantic)))
    assert tables[0, 0, 0] == (semantic == 1)


@pytest.mark.parametrize("beyond", [0, 1])
def test_half_of_a_thing_on_stuff_makes_it_stuff(beyond: int) -> None:  # quirk Q14
    """Of 64 pixels of the thing the semantic map has 32 on stuff 2, or one fewer."""
    case = segments_case(11, [2], limit=1)
    channels, semantic = torch.full((1, 32, 64), 255).byte(), torch.full((1, 32, 64), 6).byte()
    channels[0, :8, :8] = 5
    semantic[0, :4, :8] = 2
    semantic[0, 0, :beyond] = 7
    case = changed(case, channels=channels, semantic=semantic, classes=torch.tensor([1, 1]), order=torch.arange(2))
    tables, _ = both(changed(case, sizes=[32, 64], scales=[1.0], originals=[32, 64]))
    assert tables[0, 1, 0] == (5 if beyond else 2)


@pytest.mark.parametrize(("limit", "count"), [(64, 2), (65, 1), (129, 0)])
def test_stuff_below_the_limit_is_void(limit: int, count: int) -> None:  # quirk Q15
    """Stuff 0 has 64 pixels, stuff 3 has 128: half of them are a thing's that turned."""
    case = segments_case(12, [2], limit=limit)
    channels, semantic = torch.full((1, 32, 64), 255).byte(), torch.full((1, 32, 64), 3).byte()
    channels[0, :8, :8], channels[0, :8, 8:16], channels[0, :8, 16:24] = 0, 3, 6
    case = changed(case, channels=channels, semantic=semantic)
    tables, _ = both(changed(case, sizes=[32, 64], scales=[1.0], originals=[32, 64]))
    assert tables[0, 0, 0] == count
    if count:
        assert tables[0, count, [0, 2, 3, 4, 5, 6]].tolist() == [3, 128, 8, 0, 16, 8]


def test_logits_may_lie_in_any_order() -> None:
    case = segments_case(13, [3, 3])
    both(changed(case, logits=case[2].contiguous(memory_format=torch.channels_last)))

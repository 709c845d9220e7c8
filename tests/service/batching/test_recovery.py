"""What becomes of batches that fail."""

import asyncio

import pytest

from service.batching.recovery import PixelBudget
from service.errors import PoisonousImageError
from service.failures import DeviceLostError, OutOfDeviceMemoryError
from tests.service.devices import Device, in_loop, make, submit, turns


@in_loop
async def test_a_failing_batch_is_halved_until_the_culprit_is_alone() -> None:
    device = Device(lambda items: ValueError("bad") if "x" in items else None)
    batcher = make(device, concurrency=0)
    calls = [submit(batcher, item) for item in "abxd"]
    await turns()
    batcher.resize(1)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [results[i] for i in (0, 1, 3)] == ["A", "B", "D"]
    assert isinstance(results[2], ValueError)
    assert device.batches == [list("abxd"), list("ab"), list("xd"), ["x"], ["d"]]


@in_loop
async def test_a_shortage_of_memory_halves_the_batches_and_all_that_fit_alone_succeed() -> None:
    device = Device(lambda items: OutOfDeviceMemoryError() if len(items) > 2 else None)
    batcher = make(device, concurrency=0, max_batch_pixels=8)
    calls = [submit(batcher, item, pixels=2) for item in "abcdefgh"]
    await turns()
    batcher.resize(1)
    assert await asyncio.gather(*calls) == list("ABCDEFGH")
    assert [len(batch) for batch in device.batches] == [4, 4, 2, 2, 2, 2]  # the second was formed before the shortage


@in_loop
async def test_batches_grow_again_after_a_shortage_of_memory() -> None:
    device = Device(lambda items: OutOfDeviceMemoryError() if len(items) > 2 and len(device.batches) < 10 else None)
    batcher = make(device, concurrency=0, max_batch_pixels=8)

    async def four() -> list[int]:
        batcher.resize(0)
        before = len(device.batches)
        calls = [submit(batcher, item, pixels=2) for item in "abcd"]
        await turns()
        batcher.resize(1)
        await asyncio.gather(*calls)
        return [len(batch) for batch in device.batches[before:]]

    assert await four() == [4, 2, 2]
    assert await four() == [2, 2]
    for _ in range(25):  # a 50th of the maximum each
        await submit(batcher, "a")
    assert await four() == [4]


def test_the_budget_is_halved_by_what_failed_and_recovers_to_its_maximum() -> None:
    budget = PixelBudget(1000)
    budget.shrink(900)
    assert budget.pixels == 450
    budget.shrink(950)  # was formed before
    assert budget.pixels == 450
    budget.recover()
    assert budget.pixels == 470
    for _ in range(50):
        budget.recover()
    assert budget.pixels == 1000


@in_loop
async def test_a_shortage_of_memory_that_stays_fails_the_item_alone() -> None:
    device = Device(lambda _: OutOfDeviceMemoryError())
    with pytest.raises(OutOfDeviceMemoryError):
        await submit(make(device), "a")
    assert len(device.batches) == 2


@in_loop
async def test_a_lost_device_replays_suspects_alone_and_refuses_only_the_one_that_kills_again() -> None:
    device = Device(lambda items: DeviceLostError("killed", started=True) if "x" in items else None)
    batcher = make(device, concurrency=0)
    calls = [submit(batcher, item) for item in "abxd"]
    await turns()
    batcher.resize(1)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [results[i] for i in (0, 1, 3)] == ["A", "B", "D"]
    assert isinstance(results[2], PoisonousImageError)
    assert device.batches == [list("abxd"), ["a"], ["b"], ["x"], ["d"]]


@in_loop
async def test_suspects_are_replayed_one_at_a_time_even_with_two_devices() -> None:
    device = Device(lambda items: DeviceLostError("killed", started=True) if len(items) > 1 else None)
    batcher = make(device, concurrency=0)
    calls = [submit(batcher, item) for item in "abc"]
    await turns()
    batcher.resize(2)
    await turns(1)
    device.gate.clear()
    await turns(20)
    assert device.batches == [list("abc"), ["a"]]
    device.gate.set()
    assert await asyncio.gather(*calls) == list("ABC")


@in_loop
async def test_a_batch_that_the_lost_device_never_began_is_repeated_as_it_was() -> None:
    faults = iter([DeviceLostError("killed", started=False)])
    device = Device(lambda _: next(faults, None))
    batcher = make(device, concurrency=0)
    calls = [submit(batcher, item) for item in "ab"]
    await turns()
    batcher.resize(1)
    assert await asyncio.gather(*calls) == ["A", "B"]
    assert device.batches == [["a", "b"], ["a", "b"]]

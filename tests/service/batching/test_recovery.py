"""What becomes of batches that fail."""

import asyncio

import pytest

from service.errors import DeviceLostError, OutOfDeviceMemoryError, PoisonousImageError
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
async def test_a_shortage_of_memory_halves_the_budget_and_all_that_fit_alone_succeed() -> None:
    device = Device(lambda items: OutOfDeviceMemoryError() if len(items) > 2 else None)
    batcher = make(device, concurrency=0, max_batch_pixels=8)
    calls = [submit(batcher, item, pixels=2) for item in "abcdefgh"]
    await turns()
    batcher.resize(1)
    assert await asyncio.gather(*calls) == list("ABCDEFGH")
    shrunk = batcher.pixel_budget
    assert 4 <= shrunk < 8
    for _ in range(40):
        await submit(batcher, "a")
    assert batcher.pixel_budget == 8


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

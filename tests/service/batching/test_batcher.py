"""The batcher, driven by a device that does what the test says when it says so."""

import asyncio
from typing import Any

import pytest

from service.errors import DeadlineExceededError, NotReadyError, QueueFullError
from tests.service.devices import Device, admitted, in_loop, make, submit, turns


@in_loop
async def test_an_idle_device_fires_at_once() -> None:
    device = Device()
    assert await submit(make(device), "x") == "X"
    assert device.batches == [["x"]]


@in_loop
async def test_what_arrives_meanwhile_shares_batches_and_each_gets_its_own_result() -> None:
    device = Device()
    batcher = make(device)
    results = await asyncio.gather(*(submit(batcher, item) for item in "abcdefgh"))
    assert results == list("ABCDEFGH")
    assert max(len(batch) for batch in device.batches) == 4


@in_loop
async def test_exactly_one_batch_is_formed_ahead_while_one_runs() -> None:
    device = Device()
    device.gate.clear()
    batcher = make(device)
    calls = [submit(batcher, item) for item in "abcdefghijkl"]
    await turns()
    assert len(device.batches) == 2
    device.gate.set()
    await asyncio.gather(*calls)


@in_loop
async def test_the_batch_ahead_waits_until_the_running_one_is_about_to_end() -> None:
    device = Device()
    batcher = make(device)
    batcher._times["a"].learn(1, 30.0)
    device.gate.clear()
    calls = [submit(batcher, item, seconds=100.0) for item in "ab"]
    await turns()
    assert device.batches == [["a"]]
    device.gate.set()
    await asyncio.gather(*calls)
    assert device.batches == [["a"], ["b"]]


@in_loop
async def test_only_items_of_one_key_share_a_batch_and_the_oldest_deadline_goes_first() -> None:
    device = Device()
    batcher = make(device, concurrency=0)
    late = [submit(batcher, item, key="wide", seconds=8) for item in "ab"]
    soon = submit(batcher, "c", key="tall", seconds=4)
    await turns()
    batcher.resize(1)
    await asyncio.gather(*late, soon)
    assert device.batches == [["c"], ["a", "b"]]


@in_loop
async def test_a_batch_keeps_to_the_pixel_budget_and_a_larger_item_goes_alone() -> None:
    device = Device()
    batcher = make(device, concurrency=0)
    calls = [submit(batcher, item, pixels=pixels) for item, pixels in [("a", 60), ("b", 40), ("c", 1), ("d", 300)]]
    await turns()
    batcher.resize(1)
    await asyncio.gather(*calls)
    assert device.batches == [["a", "b"], ["c"], ["d"]]


@in_loop
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    batcher = make(Device(), concurrency=0, max_queue=2, max_queue_pixels=10)
    calls = [submit(batcher, "a"), submit(batcher, "b")]
    await turns()
    with pytest.raises(QueueFullError) as refusal:
        await submit(batcher, "c")
    assert refusal.value.retry_after >= 1
    batcher.resize(1)
    assert await asyncio.gather(*calls) == ["A", "B"]
    assert await submit(batcher, "c") == "C"


@in_loop
async def test_pixels_are_bounded_until_the_answer_but_where_none_are_held_any_item_is_taken() -> None:
    device = Device()
    device.gate.clear()
    batcher = make(device, max_queue_pixels=10)
    large = submit(batcher, "a", pixels=11)
    await turns()
    assert device.batches == [["a"]]  # it does not wait any more, but its pixels are still there
    with pytest.raises(QueueFullError):
        await submit(batcher, "b", pixels=1)
    device.gate.set()
    assert await large == "A"
    assert await submit(batcher, "b", pixels=10) == "B"


@in_loop
async def test_images_of_many_pixels_do_not_share_a_batch_however_small_the_network_sees_them() -> None:
    device = Device()
    batcher = make(device, concurrency=0, max_batch_source_pixels=10)
    loop = asyncio.get_running_loop()
    sizes = [("a", 6), ("b", 4), ("c", 1), ("d", 99)]
    calls = [admitted(batcher, item, "a", (pixels, 1), loop.time() + 5) for item, pixels in sizes]
    all_of_them = asyncio.gather(*calls)
    await turns()
    batcher.resize(1)
    await all_of_them
    assert device.batches == [["a", "b"], ["c"], ["d"]]


@in_loop
async def test_a_small_image_goes_before_a_large_one_that_came_a_little_earlier() -> None:
    device = Device()
    batcher = make(device, concurrency=0, max_queue_pixels=10**9)
    now = asyncio.get_running_loop().time()
    sizes = [("large", 40_000_000, 10.0), ("small", 300_000, 11.5), ("later", 300_000, 13.0)]
    calls = [admitted(batcher, item, item, (pixels, 1), now + seconds) for item, pixels, seconds in sizes]
    all_of_them = asyncio.gather(*calls)
    await turns()
    batcher.resize(1)
    await all_of_them
    assert device.batches == [["small"], ["large"], ["later"]]


@in_loop
async def test_a_large_image_is_not_handed_over_before_the_device_is_free() -> None:
    device = Device()
    device.gate.clear()
    batcher = make(device, max_queue_pixels=10**9)
    now = asyncio.get_running_loop().time()
    sizes = [("running", 1), ("large", 20_000_000)]
    calls = [asyncio.ensure_future(admitted(batcher, item, item, (size, 1), now + 9.0)) for item, size in sizes]
    await turns()
    assert device.batches == [["running"]]
    calls.append(asyncio.ensure_future(admitted(batcher, "small", "small", (1, 1), now + 9.5)))
    await turns()
    device.gate.set()
    await asyncio.gather(*calls)
    assert device.batches == [["running"], ["small"], ["large"]]


@in_loop
async def test_a_caller_that_leaves_never_reaches_the_device() -> None:
    device = Device()
    batcher = make(device, concurrency=0)
    calls = [submit(batcher, item) for item in "abc"]
    await turns()
    calls[1].cancel()
    await turns()
    batcher.resize(1)
    assert [await calls[0], await calls[2]] == ["A", "C"]
    assert device.batches == [["a", "c"]]


@in_loop
async def test_a_deadline_that_passes_in_the_queue_ends_the_wait_and_spares_the_device() -> None:
    device = Device()
    batcher = make(device, concurrency=0)
    with pytest.raises(DeadlineExceededError):
        await submit(batcher, "a", seconds=0.02)
    batcher.resize(1)
    await turns()
    assert device.batches == []


@in_loop
async def test_a_deadline_holds_even_while_the_device_hangs() -> None:
    device = Device()
    device.gate.clear()
    with pytest.raises(DeadlineExceededError):
        await submit(make(device), "a", seconds=0.02)


@in_loop
async def test_deadlines_are_checked_again_at_the_hand_over() -> None:
    now = 100.0
    device = Device()
    batcher = make(device, concurrency=0, clock=lambda: now)
    call = asyncio.ensure_future(admitted(batcher, "a", "a", (1, 1), 105.0))
    await turns()
    now = 106.0
    batcher.resize(1)
    with pytest.raises(DeadlineExceededError):
        await call
    assert device.batches == []


@in_loop
async def test_a_deadline_that_cannot_be_met_is_refused_early_until_the_estimate_is_doubted_away() -> None:
    device = Device()
    batcher = make(device)
    batcher._times["a"].learn(1, 6.0)
    with pytest.raises(DeadlineExceededError):
        await submit(batcher, "a", seconds=5.0)
    assert device.batches == []
    for _ in range(3):
        batcher._times["a"].doubt()
    assert await submit(batcher, "a", seconds=5.0) == "A"


@in_loop
async def test_a_wrong_number_of_results_is_called_a_bug() -> None:
    async def forgetful(_: list[str]) -> list[str]:
        return []

    with pytest.raises(RuntimeError, match="This is a bug"):
        await submit(make(forgetful), "a")


@in_loop
async def test_closing_fails_what_waits_and_what_runs_and_what_comes_later() -> None:
    device = Device()
    device.gate.clear()
    batcher = make(device, max_batch_size=1)
    calls = [submit(batcher, item) for item in "abc"]
    await turns()
    assert device.batches == [["a"], ["b"]]
    await batcher.close()
    for call in [*calls, submit(batcher, "d")]:
        with pytest.raises(NotReadyError):
            await call


@in_loop
async def test_the_observer_sees_batches_and_stages() -> None:
    seen: list[tuple[Any, ...]] = []

    class Recorder:
        def batch_started(self, images: int) -> None:
            seen.append(("batch", images))

        def stage_finished(self, stage: str, seconds: float) -> None:
            seen.append((stage, seconds >= 0))

    await submit(make(Device(), observer=Recorder()), "a", pixels=3)
    assert seen == [("batch", 1), ("queue", True), ("infer", True)]


@in_loop
async def test_the_admission_counts_what_waits_and_its_pixels() -> None:
    device = Device()
    device.gate.clear()
    batcher = make(device)
    calls = [submit(batcher, letter, pixels=3) for letter in "abcd"]
    await turns()
    assert batcher.admission.pixels == 12
    waiting = batcher.admission.waiting
    assert 0 < waiting < 4
    device.gate.set()
    await asyncio.gather(*calls)
    assert (batcher.admission.waiting, batcher.admission.pixels) == (0, 0)


@in_loop
async def test_a_batch_of_one_key_is_not_held_up_by_another_keys_hopeless_deadline() -> None:
    device = Device()
    batcher = make(device, concurrency=0)
    batcher._times["slow"].learn(1, 30.0)
    with pytest.raises(DeadlineExceededError):
        await submit(batcher, "x", key="slow", seconds=5.0)
    call = submit(batcher, "a", key="quick", seconds=5.0)
    await turns()
    batcher.resize(1)
    assert await call == "A"

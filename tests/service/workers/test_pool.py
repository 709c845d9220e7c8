"""Worker processes, with predictors that do what an image's colour says."""

import asyncio
import contextlib
import functools
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
import pytest

from model.interface import host
from model.interface.served import ServedModel
from service.batching.admission import Admission
from service.batching.batcher import Batcher
from service.errors import PoisonousImageError
from service.failures import DeviceLostError, OutOfDeviceMemoryError, PredictionError, WorkerStartError
from service.workers import pool as workers
from service.workers.pool import WorkerPool
from tests.service import emulated
from tests.service.devices import admitted
from tests.service.emulated import FAIL, KILL, SHORTAGE, STICKY, Emulated, image


class Heard:
    """What a pool tells its observer and who watches it."""

    def __init__(self) -> None:
        self.restarts = 0
        self.live: list[int] = []
        self.used: dict[str, int] = {}
        self.total: dict[str, int] = {}
        self.fallbacks: dict[str, Mapping[str, str]] = {}

    def worker_restarted(self) -> None:
        self.restarts += 1

    def device_memory_changed(self, device: str, used: int) -> None:
        self.used[device] = used

    def device_memory_found(self, device: str, total: int) -> None:
        self.total[device] = total

    def kernels_checked(self, device: str, fallbacks: Mapping[str, str]) -> None:
        self.fallbacks[device] = fallbacks


@contextlib.asynccontextmanager
async def started(*factories: Any, heard: Heard | None = None) -> AsyncIterator[WorkerPool]:
    heard = heard or Heard()
    pool = WorkerPool({f"cpu:{i}": f for i, f in enumerate(factories)}, max_pixels=1_000_000, observer=heard)
    pool.watch(heard.live.append)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def kill_workers() -> None:
    for process in multiprocessing.active_children():
        process.kill()


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def batching(pool: WorkerPool) -> Batcher[Any, Any]:
    admission = Admission(max_queue=64, max_queue_pixels=10**9)
    return Batcher(pool.run, admission, max_batch_size=4, max_batch_pixels=10**9, concurrency=pool.live)


def submit(batcher: Batcher[Any, Any], pixels: Any) -> asyncio.Future[Any]:
    return asyncio.ensure_future(admitted(batcher, pixels, 1, (1, 1), time.monotonic() + 20))


def same(one: Any, other: Any) -> bool:
    return one.segments == other.segments and np.array_equal(one.segment_ids, other.segment_ids)


def test_pixels_go_and_maps_come_back_whatever_their_sizes() -> None:
    async def scenario() -> None:
        async with started(Emulated) as pool:
            images = [
                image((red, 0, 0), h, w) for red, h, w in [(1, 1, 1), (90, 7, 13), (250, 300, 200), (60, 1, 3000)]
            ]
            for batch in (images[:1], images, images[2:]):
                answers = await pool.run(batch)
                assert all(same(found, emulated.answer(given)) for found, given in zip(answers, batch, strict=True))

    asyncio.run(scenario())


def test_kernels_that_failed_on_any_device_are_told() -> None:
    def served(device: str, kernel: str, **fallbacks: str) -> ServedModel:
        return replace(emulated.SERVED, device=device, kernel=kernel, fallbacks=fallbacks)

    first, second = (
        served("cuda:0", "triton", nms="wrong"),
        served("cuda:1", "torchvision", nms="no", deform_conv2d="x"),
    )

    async def scenario() -> None:
        heard = Heard()
        factories = (functools.partial(Emulated, served=each) for each in (first, second))
        async with started(*factories, heard=heard):
            assert heard.fallbacks == {"cuda:0": first.fallbacks, "cuda:1": second.fallbacks}

    asyncio.run(scenario())
    assert workers.together([first], ["cuda:0"]) == first
    both = workers.together([first, second], ["cuda:0", "cuda:1"])
    assert both == served("cuda:0,cuda:1", "triton,torchvision", nms="wrong", deform_conv2d="x")


def test_what_is_served_comes_from_the_worker_and_names_all_devices() -> None:
    async def scenario() -> None:
        heard = Heard()
        one, two = (
            WorkerPool(dict.fromkeys(names, Emulated), max_pixels=1_000_000, observer=heard)
            for names in (["gpu"], ["gpu:0", "gpu:1"])
        )
        try:
            assert await one.start() == emulated.SERVED
            assert await two.start() == replace(emulated.SERVED, device="gpu:0,gpu:1")
        finally:
            await one.close()
            await two.close()
        assert 0 < heard.used["cpu"] < heard.total["cpu"]  # as the worker calls its device

    asyncio.run(scenario())


def test_an_error_a_shortage_a_lost_device_and_a_kill_each_arrive_as_themselves(caplog: Any) -> None:
    async def scenario() -> None:
        heard = Heard()
        async with started(functools.partial(Emulated, memory_pixels=5000), heard=heard) as pool:
            with pytest.raises(PredictionError, match="bad image"):
                await pool.run([image(FAIL)])
            with pytest.raises(OutOfDeviceMemoryError):
                await pool.run([image(SHORTAGE), image(SHORTAGE)])
            for restarts, color in enumerate((STICKY, KILL), start=1):
                with pytest.raises(DeviceLostError):
                    await pool.run([image(color)])
                assert pool.live == 0
                with pytest.raises(DeviceLostError):
                    await pool.run([image()])
                await until(lambda: pool.live)
                assert heard.restarts == restarts
            assert same((await pool.run([image()]))[0], emulated.answer(image()))
        assert heard.live[:5] == [1, 0, 1, 0, 1]

    asyncio.run(scenario())
    assert "sha256" in caplog.text


def test_only_the_image_that_kills_is_refused_and_its_neighbours_get_their_own_answers() -> None:
    async def scenario() -> None:
        heard = Heard()
        async with started(Emulated, heard=heard) as pool:
            batcher = batching(pool)
            pool.watch(batcher.resize)
            images = [image((red, 0, 0)) for red in (30, 60)] + [image(KILL), image((90, 0, 0))]
            batcher.resize(0)
            calls = [submit(batcher, each) for each in images]
            await asyncio.sleep(0)
            batcher.resize(1)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(results[2], PoisonousImageError)
            for i in (0, 1, 3):
                assert same(results[i], emulated.answer(images[i]))
            assert heard.restarts == 2 or pool.live == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("factory", "reason"), [(emulated.broken, "ValueError: It is not there."), (emulated.dying, "before it was ready")]
)
def test_a_worker_that_cannot_start_stops_the_start_with_one_line(factory: Any, reason: str) -> None:
    async def scenario() -> None:
        with pytest.raises(WorkerStartError, match=reason) as refusal:
            async with started(factory):
                pass
        assert "\n" not in str(refusal.value)

    asyncio.run(scenario())


def test_a_host_without_room_for_a_process_is_tried_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY_SECONDS", 0.01)

    def refuse(_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async def scenario() -> None:
        heard = Heard()
        async with started(Emulated, heard=heard) as pool:
            with monkeypatch.context() as full:
                full.setattr(SpawnProcess, "start", refuse)
                kill_workers()
                await until(lambda: heard.restarts == 3)
            await until(lambda: pool.live)
        with monkeypatch.context() as full:
            full.setattr(SpawnProcess, "start", refuse)
            with pytest.raises(WorkerStartError, match="temporarily unavailable"):
                async with started(Emulated):
                    pass

    asyncio.run(scenario())


def test_two_workers_share_the_work() -> None:
    async def scenario() -> None:
        slow, heard = functools.partial(Emulated, base_ms=1000.0), Heard()
        async with started(slow, slow, heard=heard) as pool:
            began = time.monotonic()
            first = asyncio.ensure_future(pool.run([image()]))
            second = asyncio.ensure_future(pool.run([image()]))
            await asyncio.sleep(0)
            assert [each.outstanding for each in pool._live.values()] == [1, 1]
            await asyncio.gather(first, second)
            assert time.monotonic() > began + 1.0
            names = [each.served.device for each in pool._live.values()]
            assert {*names} == {*heard.used} == {*heard.total} == {"cpu:0", "cpu:1"}
            assert sum(heard.total.values()) <= host.memory()  # which both share

    asyncio.run(scenario())


def test_nothing_is_left_open_when_the_pool_is_closed() -> None:
    async def scenario() -> None:
        async with started(Emulated) as pool:
            await pool.run([image()])
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(2):
            async with started(Emulated) as pool:
                await pool.run([image(height=600, width=600)])
                with pytest.raises(DeviceLostError):
                    await pool.run([image(KILL)])
        assert len(set(os.listdir("/proc/self/fd"))) <= len(before)

    asyncio.run(scenario())


def test_the_start_is_refused_in_one_line_where_shared_memory_is_too_small(monkeypatch: Any) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(WorkerStartError, match=r"too small for one image of 1 Mpx: 4 MiB.*UPSNET_MAX_PIXELS"):
        asyncio.run(WorkerPool({"cpu": Emulated}, max_pixels=1_000_000).start())

"""Faults behind the queue: scenarios bounded by their arguments; each asserts and prints its figures."""

import asyncio
import functools
import multiprocessing
import os
import time
from collections import Counter
from typing import Any

from tests.resilience.engine import Reply, closed_loop, running
from tests.service.emulated import FAIL, Emulated, image


def colored(number: int) -> Any:
    """A good image, unlike its neighbours."""
    return image((10 + number % 180, 1, 1))


def statuses(replies: list[Reply]) -> dict[int, int]:
    return dict(Counter(reply.status for reply in replies))


async def poison(requests: int, factory: Any) -> None:
    """One poison image in every batch of 8."""
    async with running(factory) as engine:
        bad = {i for i in range(requests) if i % 8 == 3}
        images = [image(FAIL) if i in bad else colored(i) for i in range(requests)]
        replies = await closed_loop(engine.send, images, clients=32)
    print(
        f"\npoison: {requests} requests, {len(bad)} poisonous: {statuses(replies)}, "
        f"{sum(r.equal for r in replies)} equal to their answers alone"
    )
    assert statuses(replies) == {200: requests - len(bad), 500: len(bad)}
    assert sum(reply.equal for reply in replies) == requests - len(bad)


async def murder(seconds: float, kill_after: float, factory: Any) -> None:
    """The worker is killed again and again, some time after each start, under load."""
    deadline, kills = 10.0, 0
    async with running(factory) as engine:
        end = time.monotonic() + seconds

        def images() -> Any:
            number = 0
            while time.monotonic() < end:
                number += 1
                yield colored(number)

        async def killer() -> None:
            nonlocal kills
            while True:
                while not engine.pool.live:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(kill_after)
                for process in multiprocessing.active_children():
                    process.kill()
                    kills += 1
                while engine.pool.live:  # else the next wait would begin before the next start
                    await asyncio.sleep(0.005)

        task = asyncio.ensure_future(killer())
        replies = await closed_loop(functools.partial(engine.send, seconds=deadline), images(), clients=24)
        task.cancel()
    accepted = [reply for reply in replies if reply.status != 429]
    good = sum(reply.status == 200 for reply in accepted)
    slowest = max(reply.seconds for reply in replies)
    print(
        f"\nkills: {kills} kills in {seconds:.0f} s, {len(accepted)} accepted: {statuses(replies)}, "
        f"{100 * good / len(accepted):.3f} % 200, slowest {slowest:.2f} s"
    )
    assert kills >= 2
    assert all(reply.equal for reply in replies if reply.status == 200)
    assert slowest < deadline + 0.5
    assert good >= 0.995 * len(accepted)


async def overload(seconds: float, factory: Any, capacity: float) -> None:
    """Ten times the capacity, open loop."""
    async with running(factory) as engine:
        await closed_loop(engine.send, [colored(i) for i in range(24)], clients=24)  # learn the rate
        began, sent = time.monotonic(), 0
        calls: set[asyncio.Future[Reply]] = set()
        replies: list[Reply] = []
        while (spent := time.monotonic() - began) < seconds:
            for _ in range(sent, int(10 * capacity * spent)):
                call = asyncio.ensure_future(engine.send(colored(sent), 5.0))
                call.add_done_callback(lambda done: (calls.discard(done), replies.append(done.result())))
                calls.add(call)
                sent += 1
            await asyncio.sleep(0.002)
        await asyncio.gather(*calls)
        took = time.monotonic() - began
    refused = sorted(reply.seconds for reply in replies if reply.status == 429)
    good = sum(reply.status == 200 for reply in replies)
    p99 = refused[int(0.99 * len(refused))]
    print(
        f"\noverload: {sent} requests in {seconds:.0f} s: goodput {100 * good / took / capacity:.1f} % of "
        f"{capacity:.0f}/s, refusals p99 {1000 * p99:.2f} ms, {engine.late} expired on the device, {statuses(replies)}"
    )
    assert engine.late == 0
    assert all(reply.retry_after and reply.retry_after >= 1 for reply in replies if reply.status == 429)
    assert all(reply.equal for reply in replies if reply.status == 200)
    assert set(statuses(replies)) == {200, 429}
    assert p99 < 0.050
    assert good > (0.95 if seconds > 10 else 0.5) * capacity * took


async def leaving(clients: int, factory: Any) -> None:
    """Clients that queue and leave."""
    async with running(factory, max_queue=clients, max_batch_size=8) as engine:
        calls = [asyncio.ensure_future(engine.send(colored(i))) for i in range(clients)]
        while not engine.on_device:
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await engine.send(colored(1))).equal
        reached = engine.on_device - 1
    print(f"\nleaving: {clients} clients left, {reached} reached the device")
    assert reached <= max(8, 0.01 * clients)


async def shortage(requests: int, factory: Any) -> None:
    """The device's memory holds three images of a batch of eight."""
    async with running(factory, max_batch_pixels=8 * 480 * 640) as engine:
        images = [colored(number) for number in range(requests)]
        replies = await closed_loop(engine.send, images, clients=16)
        engine.largest_batch = 0
        replies += await closed_loop(engine.send, images, clients=16)
        shrunk, engine.largest_batch = engine.largest_batch, 0
        for number in range(60):
            assert (await engine.send(colored(number))).equal
        replies += await closed_loop(engine.send, images[:32], clients=32)
        recovered = engine.largest_batch
    print(
        f"\nshortage: {len(replies)} requests with memory for 3 images: {statuses(replies)}, "
        f"batches of at most {shrunk}, then of {recovered} again"
    )
    assert statuses(replies) == {200: len(replies)}
    assert all(reply.equal for reply in replies)
    assert shrunk <= 4
    assert recovered == 8


def in_memory_for(images: int, **timing: float) -> Any:
    return functools.partial(Emulated, memory_pixels=images * 48 * 64, **timing)


def resident_bytes(pid: int | str = "self") -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(points: list[tuple[float, float]]) -> float:
    """Least squares, units a second."""
    n = len(points)
    mean_x, mean_y = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)

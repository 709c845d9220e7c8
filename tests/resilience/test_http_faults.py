"""Faults behind the queue, seen through HTTP: on emulated workers, and a hundred requests each on the demo archive."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.interface.codec import encode_png
from tests.paths import DEMO
from tests.resilience.client import Connection, Reply, free_port, our_server, percentile, request, serving, tree
from tests.service.emulated import FAIL, image

pytestmark = pytest.mark.resilience
PATIENCE_SECONDS = 600
needs_demo = pytest.mark.skipif(not DEMO.is_file(), reason="weights/camvid_demo.pt is not there")


@contextlib.asynccontextmanager
async def emulated(*arguments: str) -> AsyncIterator[tuple[int, int]]:
    port = free_port()
    async with serving(our_server(port, *arguments), port) as pid:
        yield port, pid


@contextlib.asynccontextmanager
async def demo(**settings: int) -> AsyncIterator[tuple[int, int]]:
    port = free_port()
    settings = {"deadline_ms": 1000 * PATIENCE_SECONDS, **settings}  # its speed is not what is tested
    changes = [f"UPSNET_{name.upper()}={value}" for name, value in settings.items()]
    words = ["env", f"UPSNET_MODEL={DEMO}", f"UPSNET_PORT={port}", "UPSNET_LOG_LEVEL=error", *changes]
    async with serving([*words, sys.executable, "-m", "service"], port) as pid:
        yield port, pid


def scene(number: int, height: int = 48, width: int = 64) -> bytes:
    """A good photo, unlike its neighbours: a block of colour on noise."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 90, (height, width, 3), np.uint8)
    pixels[height // 2 :, : width // 2] = random.integers(0, 256, 3, np.uint8)
    pixels[0, 0] = (10 + number % 180, 1, 1)
    return encode_png(pixels)


def prepare(photo: bytes) -> bytes:
    """With one id for all, equal answers are equal bytes."""
    return request(photo, Accept="image/png", X_Request_ID="same")


async def alone(port: int, prepared: list[bytes]) -> list[bytes]:
    """The answer to each where nothing else runs."""
    connection = Connection(port)
    replies = [await connection.send(one) for one in prepared]
    await connection.close()
    assert {reply.status for reply in replies} == {200}
    return [reply.body for reply in replies]


async def metric(port: int, name: str) -> float:
    connection = Connection(port)
    text = (await connection.send(request(b"", "/metrics", "GET"))).body.decode()
    await connection.close()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


async def ready_status(port: int) -> int:
    connection = Connection(port)  # a new one: the service closes those that were idle for 5 s
    reply = await connection.send(request(b"", "/health/ready", "GET"))
    await connection.close()
    return reply.status


def worker_of(pid: int) -> list[int]:
    """Processes below the service that compute."""
    found = []
    for one in tree(pid)[1:]:
        with contextlib.suppress(OSError):  # it ended meanwhile
            if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


async def poison(name: str, port: int, bad: tuple[bytes, int], requests: int, clients: int) -> None:
    """Every eighth image fails; each good one gets the answer it gets alone."""
    good = [prepare(scene(number)) for number in range(16)]
    expected = await alone(port, good)
    counts: Counter[int] = Counter()
    equal = 0
    numbers = iter(range(requests))

    async def client() -> None:
        nonlocal equal
        connection = Connection(port)
        for number in numbers:
            is_bad = number % 8 == 3
            reply = await connection.send(request(bad[0]) if is_bad else good[number % 16])
            counts[reply.status] += 1
            equal += not is_bad and reply.body == expected[number % 16]
        await connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    failing = sum(number % 8 == 3 for number in range(requests))
    print(f"\npoison over HTTP, {name}: {requests} requests, {failing} bad: {dict(counts)}, {equal} equal to alone")
    assert counts == {200: requests - failing, bad[1]: failing}
    assert equal == requests - failing


async def murder(name: str, port: int, pid: int, clients: int, seconds: float, least: int, deadline: float) -> None:
    """Kill -9 of the worker 5 s after each time it is ready, for so many seconds and requests at least."""
    good = [prepare(scene(number)) for number in range(16)]
    expected = await alone(port, good)
    replies: list[tuple[Reply, bool]] = []
    kills, end = 0, time.monotonic() + seconds

    async def killer() -> None:
        nonlocal kills
        while True:
            while await ready_status(port) != 200:
                await asyncio.sleep(0.02)
            await asyncio.sleep(5.0)
            for one in worker_of(pid):
                os.kill(one, signal.SIGKILL)
                kills += 1
            await asyncio.sleep(0.1)

    async def client(number: int) -> None:
        connection = Connection(port)
        while time.monotonic() < end or len(replies) < least:
            number = (number + 1) % 16
            reply = await connection.send(good[number])
            replies.append((reply, reply.body == expected[number]))
            if reply.status in (429, 503):
                assert int(reply.headers["retry-after"]) >= 1
                await asyncio.sleep(0.2)
        await connection.close()

    task = asyncio.ensure_future(killer())
    await asyncio.gather(*(client(number) for number in range(clients)))
    if task.done():
        task.result()
    task.cancel()
    counts = Counter(reply.status for reply, _ in replies)
    accepted = sum(count for status, count in counts.items() if status not in (429, 503))
    wrong = sum(reply.status == 200 and not equal for reply, equal in replies)
    slowest = max(reply.seconds for reply, _ in replies)
    print(
        f"\nkills over HTTP, {name}: {kills} kills, {accepted} accepted: {dict(counts)}, "
        f"{100 * counts[200] / accepted:.3f} % 200, {wrong} wrong, slowest {slowest:.2f} s"
    )
    assert kills >= 2
    assert wrong == 0
    assert slowest < deadline + 0.5
    assert counts[200] >= 0.995 * accepted


async def leaving(name: str, port: int, waves: int, each: int) -> None:
    """Clients queue behind one who stays, and leave before the device is free."""
    stayer, leaver = Connection(port), prepare(scene(2))
    for _ in range(3):  # the service learns how long a batch takes
        assert (await stayer.send(prepare(scene(1)))).status == 200
    before = await metric(port, "upsnet_batch_images_sum")
    for _ in range(waves):
        held = asyncio.ensure_future(stayer.send(prepare(scene(1))))
        await asyncio.sleep(0.05)
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(each)]
        for _, writer in streams:
            writer.write(leaver)
            await writer.drain()
        await asyncio.sleep(0.1)
        for _, writer in streams:
            writer.close()
        assert (await held).status == 200
    await stayer.close()
    while await metric(port, "upsnet_inflight_requests"):
        await asyncio.sleep(0.05)
    reached = await metric(port, "upsnet_batch_images_sum") - before - waves
    left = await metric(port, "upsnet_images_total")
    print(f"\nleaving over HTTP, {name}: {waves * each} clients left, {reached:.0f} reached the device")
    assert left == 3 + waves + waves * each  # each was received
    assert reached <= 0.01 * waves * each


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_poisonous_image_in_every_batch_costs_only_itself_on_emulated_workers() -> None:
    async def scenario() -> None:
        async with emulated() as (port, _):
            await poison("emulated", port, (encode_png(image(FAIL)), 500), 2000, 32)

    run(scenario())


@needs_demo
def test_a_bad_image_in_every_batch_costs_only_itself_on_the_demo_archive() -> None:
    async def scenario() -> None:
        async with demo() as (port, _):
            await poison("demo archive", port, (scene(0)[:-40], 422), 100, 4)

    run(scenario())


def test_3_minutes_of_kills_cost_emulated_workers_no_answer() -> None:
    async def scenario() -> None:
        async with emulated() as (port, pid):
            await murder("emulated", port, pid, 16, 180.0, 0, 30.0)

    run(scenario())


@needs_demo
def test_kills_cost_the_demo_archive_no_answer() -> None:
    async def scenario() -> None:
        async with demo() as (port, pid):
            await murder("demo archive", port, pid, 3, 0.0, 100, PATIENCE_SECONDS)

    run(scenario())


@needs_demo
def test_overload_of_the_demo_archive() -> None:
    async def scenario() -> None:
        async with demo(max_queue=8) as (port, _):
            good = prepare(scene(1))
            (expected,) = await alone(port, [good])
            replies: list[Reply] = []

            async def client() -> None:
                connection = Connection(port)
                while len(replies) < 100:
                    replies.append(await connection.send(good))
                    if replies[-1].status == 429:
                        await asyncio.sleep(0.5)
                await connection.close()

            await asyncio.gather(*(client() for _ in range(40)))
        counts = Counter(reply.status for reply in replies)
        p99 = 1000 * percentile([reply.seconds for reply in replies if reply.status == 429], 0.99)
        print(f"\noverload over HTTP, demo archive: {dict(counts)}, refusals p99 {p99:.1f} ms")
        assert set(counts) == {200, 429}
        assert all(reply.body == expected for reply in replies if reply.status == 200)
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status == 429)

    run(scenario())


def test_1000_clients_that_leave_emulated_workers() -> None:
    async def scenario() -> None:
        async with emulated("--base-ms", "1500", "--max-queue", "256") as (port, _):
            await leaving("emulated", port, 10, 100)

    run(scenario())


@needs_demo
def test_100_clients_that_leave_the_demo_archive() -> None:
    async def scenario() -> None:
        async with demo() as (port, _):
            await leaving("demo archive", port, 10, 10)

    run(scenario())

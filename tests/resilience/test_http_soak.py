"""R9 through HTTP: the memory of the real front and worker, by million requests."""

import asyncio
import os
import time

import numpy as np
import pytest

from model.codec import encode_png
from tests.resilience.client import Connection
from tests.resilience.scenarios import resident_bytes
from tests.resilience.test_http_faults import emulated, prepare, worker_of
from tests.service.emulated import image


async def soak(port: int, pid: int, seconds: float) -> None:
    """R9: memory and descriptors under mixed sizes, by million requests."""
    sizes = [(48, 64), (100, 80), (480, 640), (300, 400), (720, 1280), (33, 999)]
    prepared = [prepare(encode_png(image((10 + i, 1, 1), *size))) for i, size in enumerate(sizes)]
    samples: list[tuple[int, list[float]]] = []
    answered, end = 0, time.monotonic() + seconds
    pids = [pid, *worker_of(pid)]

    async def client(number: int) -> None:
        nonlocal answered
        connection = Connection(port)
        while time.monotonic() < end:
            number += 1
            assert (await connection.send(prepared[number % len(prepared)])).status == 200
            answered += 1
        await connection.close()

    async def sampler() -> None:
        while True:
            await asyncio.sleep(seconds / 60)
            samples.append((answered, [resident_bytes(one) / 1e6 for one in pids]))

    def descriptors() -> int:
        return sum(len(os.listdir(f"/proc/{one}/fd")) for one in pids)

    task = asyncio.ensure_future(sampler())
    clients = asyncio.gather(*(client(number) for number in range(32)))
    await asyncio.sleep(seconds / 4)
    opened = descriptors()
    await asyncio.sleep(seconds / 2)
    reopened = descriptors()
    await clients
    task.cancel()
    warm = samples[len(samples) // 3 :]
    third = len(warm) // 3
    levels = [[float(np.median([s[1][k] for s in part])) for part in (warm[:third], warm[-third:])] for k in (0, 1)]
    requests = warm[-third // 2][0] - warm[third // 2][0]
    growth = [1e6 * (last - first) / requests for first, last in levels]
    print(
        f"\nR9 over HTTP: {answered} requests in {seconds:.0f} s; medians of the first and last third after warm-up: "
        f"front {levels[0][0]:.1f} -> {levels[0][1]:.1f}, worker {levels[1][0]:.1f} -> {levels[1][1]:.1f} MB; "
        f"{growth[0]:+.1f} and {growth[1]:+.1f} MB a million requests; descriptors {opened} -> {reopened}"
    )
    assert reopened <= opened + 4
    assert max(last - first for first, last in levels) < 2.0


@pytest.mark.resilience
def test_r9_4_minutes_of_mixed_sizes() -> None:
    async def scenario() -> None:
        async with emulated("--base-ms", "0") as (port, pid):
            await soak(port, pid, 240.0)

    asyncio.run(scenario())

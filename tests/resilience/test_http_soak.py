"""The real front and worker under mixed sizes, for twenty minutes."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from model.interface.codec import encode_png
from tests.resilience.client import Connection
from tests.resilience.scenarios import slope
from tests.resilience.test_http_faults import emulated, prepare, worker_of
from tests.service.emulated import image

SIZES = [(48, 64), (100, 80), (480, 640), (300, 400), (720, 1280), (33, 999)]


def held(pids: list[int]) -> dict[str, int]:
    """What the processes hold beside memory; shared memory is among the descriptors."""
    descriptors = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in pids for fd in os.listdir(f"/proc/{pid}/fd")]
    return {
        "descriptors": len(descriptors),
        "shared memory": sum(name.startswith("/memfd:") for name in descriptors),
        "threads": sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
    }


def private_mb(pid: int) -> float:
    """Memory of its own: how much of a shared block was ever touched goes up and down with the sizes of batches."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


async def soak(port: int, pids: list[int], seconds: float) -> None:
    """After a quarter of the time as warm-up, nothing grows."""
    prepared = [prepare(encode_png(image((10 + i, 1, 1), *size))) for i, size in enumerate(SIZES)]
    samples: list[tuple[float, ...]] = []
    answered, end = 0, time.monotonic() + seconds

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
            await asyncio.sleep(seconds / 120)
            samples.append((time.monotonic(), *(private_mb(pid) for pid in pids)))

    task = asyncio.ensure_future(sampler())
    clients = asyncio.gather(*(client(number) for number in range(32)))
    await asyncio.sleep(seconds / 4)
    early = held(pids)
    await asyncio.sleep(seconds / 2)
    late = held(pids)
    await clients
    task.cancel()
    warm = samples[len(samples) // 4 :]
    slopes = [3600 * slope([(sample[0], sample[k]) for sample in warm]) for k in (1, 2)]
    levels = [f"{warm[0][k]:.1f} -> {warm[-1][k]:.1f}" for k in (1, 2)]
    print(
        f"\nsoak: {answered} requests in {seconds:.0f} s; own memory: {levels[0]} MB, worker {levels[1]} MB; slopes "
        f"{slopes[0]:+.2f} and {slopes[1]:+.2f} MB/h (extrapolated); {early} -> {late}"
    )
    assert late == early
    assert max(slopes) < 1.0


@pytest.mark.resilience
def test_20_minutes_of_mixed_sizes() -> None:
    async def scenario() -> None:
        async with emulated() as (port, pid):
            await soak(port, [pid, *worker_of(pid)], 1200.0)

    asyncio.run(scenario())

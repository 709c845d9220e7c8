"""Faults seen through HTTP: overload, and metrics that reconcile with the client's own counts."""

import asyncio
import random
import re
import time
from collections import Counter, deque
from pathlib import Path

import pytest
import uvloop

from model.interface.codec import encode_png
from tests.resilience.client import Connection, Reply, free_port, our_server, percentile, request, serving
from tests.resilience.scenarios import resident_bytes
from tests.service.emulated import FAIL, GOOD, image

GOOD_PNG, BAD_PNG = encode_png(image(GOOD)), encode_png(image(FAIL))


async def flood(port: int, pid: int, seconds: float, rate: float) -> None:
    """So many requests a second, whatever becomes of them, each on a connection that is free."""
    replies: list[Reply] = []
    free: deque[Connection] = deque()  # the longest idle first, or the service closes it
    calls: set[asyncio.Task[None]] = set()
    prepared = request(GOOD_PNG, Accept="image/png")

    async def call() -> None:
        connection = free.popleft() if free else Connection(port)
        replies.append(await connection.send(prepared))
        replies[-1].body = b""
        free.append(connection)

    warm, began, sent = resident_bytes(pid), time.monotonic(), 0
    while (spent := time.monotonic() - began) < seconds:
        for _ in range(sent, int(rate * spent)):
            task = asyncio.ensure_future(call())
            task.add_done_callback(calls.discard)
            calls.add(task)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*calls)
    took = time.monotonic() - began
    await asyncio.gather(*(connection.close() for connection in free))
    counts = Counter(reply.status for reply in replies)
    p99 = percentile([reply.seconds for reply in replies if reply.status == 429], 0.99)
    growth = (resident_bytes(pid) - warm) / 1e6
    print(
        f"\noverload over HTTP: {sent / took:.0f} requests/s on {len(free)} connections, "
        f"goodput {100 * counts[200] / took / 133.3:.1f} % of capacity, "
        f"refusals p99 {1000 * p99:.1f} ms, RSS {growth:+.1f} MB, {dict(counts)}"
    )
    assert set(counts) == {200, 429}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status == 429)


async def reconcile(port: int, requests: int) -> None:
    """A mix of every fate; then the counters of the service against those of the client."""
    fates: list[bytes] = [
        request(GOOD_PNG),
        request(BAD_PNG),
        request(b"no image"),
        request(GOOD_PNG[:60]),
        request(GOOD_PNG, X_Deadline_Ms="1"),
        request(GOOD_PNG, Accept="text/plain"),
        request(GOOD_PNG, "/panoptic?view=unknown"),
    ]
    seen: Counter[str] = Counter()
    left = 0

    async def client(share: int) -> None:
        nonlocal left
        connection = Connection(port)
        for number in range(share):
            if number % 10 == 9:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(GOOD_PNG))
                await writer.drain()
                await asyncio.sleep(0.002)
                writer.close()
                await writer.wait_closed()
                left += 1
            else:
                seen[str((await connection.send(random.choice(fates))).status)] += 1
        await connection.close()

    await asyncio.gather(*(client(20) for _ in range(requests // 20)))
    probe = Connection(port)
    while True:
        text = (await probe.send(request(b"", "/metrics", "GET"))).body.decode()
        counted = Counter[str]()
        for status, count in re.findall(r'upsnet_requests_total\{[^}]*status="(\d+)"[^}]*\} ([\d.e+]+)', text):
            counted[status] += int(float(count))
        outcomes = sum(float(count) for count in re.findall(r"upsnet_images_total\{[^}]*\} ([\d.e+]+)", text))
        if "upsnet_inflight_requests 0.0" in text and sum(counted.values()) >= sum(seen.values()):
            break
        await asyncio.sleep(0.05)
    await probe.close()
    finished = sum(counted.values()) - sum(seen.values())  # of those that left: 499, or answered before it was noticed
    print(f"\nclient saw {dict(seen)}, left {left} times; service counted {dict(counted)}, outcomes {outcomes:.0f}")
    assert outcomes == sum(counted.values())
    assert finished == left
    assert all(counted[status] == count for status, count in seen.items() if status not in ("200", "429", "504"))
    assert counted["200"] + counted["429"] + counted["504"] + counted["499"] == (
        seen["200"] + seen["429"] + seen["504"] + left
    )


@pytest.mark.resilience
def test_ten_times_the_capacity_over_http() -> None:
    async def scenario() -> None:
        port = free_port()
        async with serving(our_server(port), port) as pid:
            await flood(port, pid, 60.0, 1333.0)

    uvloop.run(scenario())  # a client that costs little: it shares the cores with the service


@pytest.mark.resilience
def test_metrics_reconcile_with_the_clients_counts() -> None:
    async def scenario() -> None:
        port = free_port()
        async with serving(our_server(port), port):
            await reconcile(port, 5000)

    asyncio.run(scenario())


def test_metrics_reconcile_with_a_few_hundred_requests() -> None:
    async def scenario() -> None:
        port = free_port()
        async with serving(our_server(port), port) as pid:
            await reconcile(port, 300)
            assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()  # nor CUDA: the front has no part in either

    asyncio.run(scenario())

"""10 000 malformed images over HTTP, the real codec before emulated workers."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from model.interface.codec import encode_png
from service.http.forms import MEDIA_TYPES
from tests.resilience.client import Connection, Reply, free_port, our_server, request, serving, tree
from tests.resilience.scenarios import resident_bytes
from tests.resilience.test_http_faults import metric
from tests.service.emulated import GOOD, image
from tests.service.hostile import Named, hostile

HANG_SECONDS = 35.0
"""The deadline is 30."""
CLIENTS = 8


def prepare(content: bytes, rng: random.Random) -> bytes:
    """The image as a body or as a form, asking for any answer."""
    path = rng.choice(["/panoptic"] * 3 + ["/panoptic?view=overlay"])
    accept = rng.choice(MEDIA_TYPES)
    if rng.random() < 0.7:
        return request(content, path, Accept=accept)
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    form = head + content + b"\r\n--b--\r\n"
    return request(form, path, Accept=accept, Content_Type="multipart/form-data; boundary=b")


async def send_all(port: int, inputs: Iterator[Named], rng: random.Random) -> list[tuple[str, Reply]]:
    """Every input once, over a few connections; one that is not answered in time ends the test."""
    replies: list[tuple[str, Reply]] = []

    async def client() -> None:
        connection = Connection(port)
        for name, content in inputs:
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    reply = await connection.send(prepare(content, rng))
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                raise AssertionError(f"{name}: no answer ({error!r})") from error
            reply.body = reply.body[:500]
            replies.append((name, reply))
        await connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return replies


@asynccontextmanager
async def service() -> AsyncIterator[tuple[int, int]]:
    port = free_port()
    async with serving(our_server(port, "--base-ms", "1"), port) as pid:
        good = encode_png(image(GOOD, 480, 640))
        await send_all(port, iter([("good", good)] * 200), random.Random(0))
        yield port, pid


def table(replies: list[tuple[str, Reply]]) -> str:
    """Statuses, how many, of which kinds, and the slowest of each."""
    kinds: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for name, reply in replies:
        kinds[reply.status][name.split()[0]] += 1
    lines = ["status  count  slowest  kinds"]
    for status, counts in sorted(kinds.items()):
        slowest = max(reply.seconds for _, reply in replies if reply.status == status)
        most = ", ".join(f"{kind} {count}" for kind, count in counts.most_common(6))
        lines.append(f"{status:6d} {counts.total():6d} {slowest:6.2f} s  {most}")
    return "\n".join(lines)


async def malformed(count: int, seed: int) -> None:
    async with service() as (port, pid):
        processes = tree(pid)
        before = sum(map(resident_bytes, processes))
        replies = await send_all(port, hostile(seed, count), random.Random(seed))
        growth = (sum(map(resident_bytes, tree(pid))) - before) / 1e6
        restarts = await metric(port, "upsnet_worker_restarts_total")
        print(f"\n{len(replies)} inputs, RSS {growth:+.1f} MB, {restarts:.0f} restarts\n{table(replies)}")
        assert len(replies) == count
        assert [(name, reply.body) for name, reply in replies if reply.status >= 500] == []
        assert {reply.status for _, reply in replies} <= {200, 400, 413, 415, 422, 429}  # 429: six of 39 Mpx at once
        assert restarts == 0
        assert tree(pid) == processes
        assert growth <= 50


def test_300_malformed_images_over_http() -> None:
    asyncio.run(malformed(300, seed=11))


@pytest.mark.resilience
def test_10000_malformed_images_over_http() -> None:
    asyncio.run(malformed(10_000, seed=1))

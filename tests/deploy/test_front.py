"""Rolling restarts and slow connections against docker/nginx.conf, with processes in place of containers."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from model.interface.codec import encode_png
from tests.deploy.host import REPOSITORY
from tests.deploy.plain import FRONT, Replica, scaled
from tests.deploy.slow import attack, unaffected
from tests.resilience.attack import LARGE, exchange, many_pixels, pipelined, send_for_ever, uploads
from tests.resilience.client import Connection, Reply, free_port, our_server, percentile, request, serving
from tests.resilience.test_attack import CHUNKED, check_pixels
from tests.service.emulated import GOOD, image
from tests.service.http.test_connection import REFUSED, statuses

pytestmark = pytest.mark.deploy

SHARE = int(re.findall(r"limit_conn clients (\d+);", (REPOSITORY / "docker/nginx.conf").read_text())[0])
BY_NGINX = {
    "no version": [],  # HTTP/0.9: a body without a head
    "201 headers": [431, 200],  # a replica's refusal ends its own connection, not this one
    "1 MB of trailers": [200],  # which nginx drops
}
POST = request(encode_png(image(GOOD)), Accept="image/png")


async def load(requests: int, clients: int) -> list[Reply]:
    replies: list[Reply] = []

    async def client() -> None:
        connection = Connection(FRONT)
        for _ in range(requests // clients):
            replies.append(await connection.send(POST))
        await connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies


def test_rolling_restarts_of_two_replicas_lose_none_of_10000_requests(workplace: Path) -> None:
    async def scenario() -> None:
        async with scaled(workplace, ["127.0.0.2", "127.0.0.3"]) as (names, replicas):
            loading = asyncio.ensure_future(load(10_000, 20))
            statuses, addresses = [], iter(["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"])
            for index in (0, 1, 0, 1):  # restarted where they are, then replaced by others at new addresses
                await asyncio.sleep(4)  # what docs/operations.md asks for: nginx asks for names every two seconds
                old, new = replicas[index].address, next(addresses)
                statuses.append(await replicas[index].stop())
                names.addresses.remove(old)
                replicas[index] = Replica(new)
                names.addresses.append(new)  # as Docker does: known before it is ready
                await replicas[index].ready()
            restarted_under_load = not loading.done()
            replies = await loading
            counts = Counter(reply.status for reply in replies)
            seconds = [reply.seconds for reply in replies]
            print(
                f"\nR4: {len(replies)} requests over 4 restarts of 2 replicas: {dict(counts)}, "
                f"p50 {1000 * percentile(seconds, 0.5):.0f} ms, slowest {max(seconds):.2f} s, exits {statuses}"
            )
            assert restarted_under_load
            assert statuses == [0, 0, 0, 0]
            assert counts == {200: 10_000}

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["headers", "bodies", "drips"])
def test_1000_slow_connections_through_the_front(workplace: Path, kind: str) -> None:
    async def scenario() -> None:
        async with scaled(workplace, ["127.0.0.2", "127.0.0.3"]) as (_, replicas):
            async with unaffected(f"front, {kind}", FRONT, POST) as replies:
                history = await attack(kind, f"http://127.0.0.1:{FRONT}/panoptic", workplace)
            assert sum([await replica.received() for replica in replicas]) == len(replies)  # and of the attack nothing
            if kind == "drips":  # nginx has no limit for a whole body: what one address may hold is bounded, not cut
                assert history.connected_after(12) <= SHARE
            else:
                assert history.seconds_to_cut <= (13 if kind == "headers" else 8)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["headers", "bodies", "drips"])
def test_1000_slow_connections_to_a_replica_itself(workplace: Path, kind: str) -> None:
    async def scenario() -> None:
        port = free_port()
        async with serving(our_server(port), port), unaffected(f"replica, {kind}", port, POST):
            history = await attack(kind, f"http://127.0.0.1:{port}/panoptic", workplace)
        assert history.seconds_to_cut <= 13

    asyncio.run(scenario())


def test_attacks_through_the_front_leave_a_replica_as_it_was(workplace: Path) -> None:
    """Those of `tests.resilience.test_attack`, by one address, where a second one is served on."""

    async def scenario() -> None:
        async with scaled(workplace, ["127.0.0.2"]) as (_, replicas):
            await asyncio.to_thread(attack_all, replicas[0].process.pid)

    asyncio.run(scenario())


def attack_all(pid: int) -> None:
    for name in ("WebP, 40 bytes", "PNG, interlaced"):
        for clients in (8, 64):
            seen = many_pixels(FRONT, pid, LARGE[name](), clients=clients, seconds=10.0)
            print("\n" + seen.row(f"front, {clients} clients, {name}"))
            check_pixels(seen)
            assert clients > 8 or percentile(seen.waits, 0.99) < 0.5
    seen, sent = send_for_ever(FRONT, pid, CHUNKED, b"a:\r\n" * 16_000, 9.0)
    print(seen.row(f"front, trailers without end, {sent / 1e6:.0f} MB taken"))
    assert max(seen.waits) < 0.5
    seen = pipelined(FRONT, pid, connections=8, requests=13_000, seconds=8.0)
    print(seen.row("front, 8 connections of 13 000 requests"))
    assert percentile(seen.waits, 0.99) < 0.1
    seen = uploads(FRONT, pid, connections=60, size=20_000_000, seconds=6.0)
    print(seen.row("front, 60 bodies of 20 MB less a byte"))
    assert seen.peak_mb < seen.before_mb + 100
    for name, (sent_first, _) in REFUSED.items():
        answers = exchange(FRONT, sent_first + b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", patience=1.0)
        found = statuses(answers)
        print(f"| front, {name} | {found} |")
        assert found == BY_NGINX.get(name, [400]), name
        assert b"<html" not in answers
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    offer = (
        b"POST /panoptic HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n"
    )
    assert statuses(exchange(FRONT, offer % len(smuggled), smuggled)) == [415]

"""TARGETS R4 and R7 against docker/nginx.conf, with processes in place of containers."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from model.codec import encode_png
from tests.deploy.host import REPOSITORY
from tests.deploy.plain import FRONT, Replica, scaled
from tests.deploy.slow import attack, unaffected
from tests.resilience.client import Connection, Reply, free_port, our_server, percentile, request, serving
from tests.service.emulated import GOOD, image

pytestmark = pytest.mark.deploy

SHARE = int(re.findall(r"limit_conn clients (\d+);", (REPOSITORY / "docker/nginx.conf").read_text())[0])
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


def test_r4_rolling_restarts_of_two_replicas_lose_none_of_10000_requests(workplace: Path) -> None:
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
def test_r7_1000_slow_connections_through_the_front(workplace: Path, kind: str) -> None:
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
def test_r7_1000_slow_connections_to_a_replica_itself(workplace: Path, kind: str) -> None:
    async def scenario() -> None:
        port = free_port()
        async with serving(our_server(port), port), unaffected(f"replica, {kind}", port, POST):
            history = await attack(kind, f"http://127.0.0.1:{port}/panoptic", workplace)
        assert history.seconds_to_cut <= 13

    asyncio.run(scenario())

"""1 000 slow connections by slowhttptest, and normal traffic beside them."""

import asyncio
import contextlib
import csv
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.host import install
from tests.resilience.client import Connection, Reply, percentile

CONNECTIONS, OPENED_A_SECOND = 1000, 500
SECONDS = 25
KINDS = {
    "headers": ["-H", "-i", "3"],  # a header line every 3 s, and never the last
    "bodies": ["-B", "-i", "20", "-s", "100000"],  # the body stops for longer than any limit
    "drips": ["-B", "-i", "1", "-x", "8", "-s", "100000"],  # a few bytes every second
}


@dataclass(frozen=True)
class History:
    """Connections that were open in each second of an attack."""

    connected: tuple[int, ...]

    @property
    def most_connected(self) -> int:
        return max(self.connected)

    @property
    def seconds_to_cut(self) -> int:
        """From the opening of the last connection to the end of the last."""
        opened = self.connected.index(self.most_connected)
        open_seconds = [second for second, count in enumerate(self.connected) if count]
        return max(open_seconds) + 1 - opened

    def connected_after(self, second: int) -> int:
        return max(self.connected[second:], default=0)


async def attack(kind: str, url: str, folder: Path) -> History:
    """The history of one attack; it ends by itself."""
    install(slowhttptest="slowhttptest")
    output = folder / "slow"
    words = [*KINDS[kind], "-c", str(CONNECTIONS), "-r", str(OPENED_A_SECOND), "-l", str(SECONDS), "-t", "POST"]
    process = await asyncio.create_subprocess_exec(
        "slowhttptest", *words, "-p", "5", "-u", url, "-g", "-o", str(output), stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    with output.with_suffix(".csv").open(encoding="ascii") as file:
        rows = [{name.strip(): value for name, value in row.items() if name} for row in csv.DictReader(file)]
    history = History(tuple(int(row["Connected"]) for row in rows))
    print(f"\n{kind}: open connections by second {list(history.connected)}")
    assert history.most_connected > CONNECTIONS / 4
    return history


@contextlib.asynccontextmanager
async def unaffected(name: str, port: int, prepared: bytes) -> AsyncIterator[list[Reply]]:
    """Normal traffic from another address, before and during; each request has to succeed. Afterwards its answers."""
    quiet = await closed_loop(port, prepared, asyncio.get_running_loop().create_future(), 6.0)
    stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    traffic = asyncio.ensure_future(closed_loop(port, prepared, stop, 120.0))
    replies: list[Reply] = []
    yield replies
    stop.set_result(None)
    loud = await traffic
    replies += quiet + loud
    before, during = ([reply.seconds for reply in replies] for replies in (quiet, loud))
    counts = Counter(reply.status for reply in loud)
    print(
        f"{name}: {len(loud)} normal requests {dict(counts)}, p50 {1000 * percentile(during, 0.5):.0f} ms "
        f"(before {1000 * percentile(before, 0.5):.0f}), p99 {1000 * percentile(during, 0.99):.0f} ms "
        f"(before {1000 * percentile(before, 0.99):.0f})"
    )
    assert set(counts) == {200}
    assert percentile(during, 0.99) < 1.0


async def closed_loop(port: int, prepared: bytes, stop: "asyncio.Future[None]", seconds: float) -> list[Reply]:
    """Four clients at 127.0.0.9, until told to stop or for so long."""
    end = asyncio.get_running_loop().time() + seconds
    replies: list[Reply] = []

    async def client() -> None:
        connection = Connection(port)
        connection._streams = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
        while not stop.done() and asyncio.get_running_loop().time() < end:
            replies.append(await connection.send(prepared))
        await connection.close()

    await asyncio.gather(*(client() for _ in range(4)))
    return replies

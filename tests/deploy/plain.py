"""The scale variant without a container engine: replicas and nginx as processes on loopback addresses.

As in a compose network, every replica listens on port 8000 of an address of its own, a resolver on 127.0.0.11 gives the
addresses of those that run, and nginx reads docker/nginx.conf as it is.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.deploy.host import REPOSITORY, root_file_system, run
from tests.resilience.client import request

FRONT = 8080
HEALTH = request(b"", "/health/ready", "GET", Connection="close")


class Names(asyncio.DatagramProtocol):
    """A resolver that answers every question with the addresses it has now."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        head = data[:2] + b"\x81\x80\x00\x01" + len(self.addresses).to_bytes(2, "big") + bytes(4)
        answers = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(address) for address in self.addresses]
        self._transport.sendto(head + question + b"".join(answers), sender)  # type: ignore[attr-defined]


class Replica:
    """One service with an emulated model on port 8000 of an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        command = [sys.executable, "-m", "tests.resilience.serve", "--port", "8000"]
        environment = {**os.environ, "UPSNET_HOST": address, "PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)

    async def ready(self) -> "Replica":
        for _ in range(600):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(self.address, 8000)
                writer.write(HEALTH)
                answer = await reader.read()
                writer.close()
                if answer.startswith(b"HTTP/1.1 200"):
                    return self
            assert self.process.poll() is None
            await asyncio.sleep(0.2)
        raise TimeoutError(f"The replica on {self.address} did not get ready.")

    async def received(self) -> int:
        """Requests for a segmentation that it has answered, by its metrics."""
        reader, writer = await asyncio.open_connection(self.address, 8000)
        writer.write(request(b"", "/metrics", "GET", Connection="close"))
        lines = (await reader.read()).decode().splitlines()
        writer.close()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("upsnet_requests_total{"))

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 40)


def front_root(workplace: Path) -> Path:
    """A Debian to change root to, with nginx and Prometheus of the versions that the compose files name."""
    root = workplace / "front"
    if not (root / "usr/sbin/nginx").exists():
        root.mkdir(exist_ok=True)
        run(["tar", "-xf", root_file_system(workplace / "front.tar", "forky", "nginx,prometheus"), "-C", root])
    return root


@contextlib.contextmanager
def nginx(workplace: Path) -> Iterator[None]:
    """docker/nginx.conf in a chroot, with an nginx as new as the image's."""
    root = front_root(workplace)
    shutil.copy(REPOSITORY / "docker/nginx.conf", root / "etc/nginx/nginx.conf")
    with (workplace / "front.log").open("w") as log:
        process = subprocess.Popen(["chroot", str(root), "nginx", "-g", "daemon off;"], stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextlib.asynccontextmanager
async def scaled(workplace: Path, addresses: list[str]) -> AsyncIterator[tuple[Names, list[Replica]]]:
    """Replicas behind nginx; both lists may be changed, and what is in the second at the end is stopped."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.11", 53))
    replicas = [Replica(address) for address in addresses]
    try:
        await asyncio.gather(*(replica.ready() for replica in replicas))
        names.addresses = list(addresses)
        with nginx(workplace):
            await front_answers()
            yield names, replicas
    finally:
        for replica in replicas:
            replica.process.kill()
            replica.process.wait()
        transport.close()


async def front_answers() -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", FRONT)
            writer.write(HEALTH)
            answer = await reader.read()
            writer.close()
            if answer.startswith(b"HTTP/1.1 200"):
                return
        await asyncio.sleep(0.2)
    raise TimeoutError("nginx does not answer.")

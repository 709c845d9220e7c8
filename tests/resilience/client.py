"""A client that costs little: one keep-alive connection each, requests prepared in advance."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT


@dataclass
class Reply:
    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes


def request(body: bytes, path: str = "/panoptic", method: str = "POST", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection:
    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, prepared: bytes) -> Reply:
        began = time.monotonic()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(prepared)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            await self.close()
        return Reply(int(head[0].split()[1]), time.monotonic() - began, headers, body)

    async def close(self) -> None:
        if self._streams:
            writer, self._streams = self._streams[1], None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def closed_loop(port: int, prepared: bytes, clients: int, seconds: float) -> list[Reply]:
    """Each client sends its next request when its last one is answered."""
    end = time.monotonic() + seconds
    replies: list[Reply] = []

    async def client() -> None:
        connection = Connection(port)
        while time.monotonic() < end:
            reply = await connection.send(prepared)
            reply.body = b""
            replies.append(reply)
        await connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(command: list[str], port: int, path: str = "/health/ready") -> AsyncIterator[int]:
    """A server program from its first good answer to its end; gives its process id."""
    root = ROOT
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        patience = time.monotonic() + 240
        while time.monotonic() < patience and process.poll() is None:
            probe = Connection(port)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if (await probe.send(request(b"", path, "GET"))).status == 200:
                    break
            await probe.close()
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError(f"{command} gave no good answer to {path}.")
        await probe.close()
        yield process.pid
    finally:
        below = tree(process.pid)[1:]
        process.terminate()
        process.wait(30)
        for pid in below:  # LitServe leaves its processes behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(*arguments: str, **settings: object) -> Iterator[tuple[int, int]]:
    """Port and process of a service with emulated workers and these settings."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for name, value in settings.items():
            patch.setenv(f"UPSNET_{name.upper()}", str(value))
        server = serving(our_server(port, *arguments), port)
        yield port, runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))


def our_server(port: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.resilience.serve", "--port", str(port), *arguments]


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all below it."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def logged_front(
    port: int, log: Path, base_ms: int, *arguments: str, form: str = "text", ready: int = 200, **settings: int
) -> subprocess.Popen[bytes]:
    """A front as `python -m service` sets it up, with emulated workers, its log in a file, and this readiness."""
    program = "from service.logs import set_up_logging; from service.streams import Streams; "
    program += f"from tests.resilience.serve import main; Streams(); set_up_logging({form!r}, 'info'); main()"
    words = [sys.executable, "-c", program, "--port", str(port), "--base-ms", str(base_ms), *arguments]
    changes = {f"UPSNET_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    with log.open("wb") as file:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=file)
    while status(port, "/health/ready") != ready:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    return process


def in_flight(port: int) -> int:
    """The requests that a service has begun to answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(next(float(line.split()[1]) for line in lines if line.startswith("upsnet_inflight_requests ")))


def status(port: int, path: str) -> int:
    """Of an answer on a new connection; 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0

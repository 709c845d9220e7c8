"""Attacks on a real front with an emulated worker: memory and the wait of others stay within wide margins.

    uv run pytest -m resilience -k attack -s

prints a table; short forms run by default.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.interface.codec import encode_png
from tests.paths import ROOT
from tests.resilience.attack import (
    HEADERS,
    LARGE,
    Seen,
    deaf_clients,
    empty_lines,
    exchange,
    live,
    many_pixels,
    pipelined,
    plain,
    post,
    resident_mb,
    send_for_ever,
    sockets,
    tiny_chunks,
    uploads,
)
from tests.resilience.client import free_port, our_server, percentile, request, serving, tree

FRONT_MB = 1500
"""With 200 Mpx admitted: 600 MB of photos, two batches shared with the worker, a decoder or two at work."""
UPLOAD_BYTES = 256 << 20
"""A 32nd of the memory that the compose file gives a container."""
CHUNKED = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"


@contextlib.contextmanager
def front(**settings: int) -> Iterator[tuple[int, int]]:
    """Port and process of a new one."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for name, value in settings.items():
            patch.setenv(f"UPSNET_{name.upper()}", str(value))
        server = serving(our_server(port), port)
        yield port, runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))


def check_pixels(seen: Seen) -> None:
    assert set(seen.statuses) <= {200, 429}
    assert seen.statuses[200]
    assert not seen.hurried
    assert seen.peak_mb < FRONT_MB


@pytest.mark.resilience
@pytest.mark.parametrize("name", LARGE)
def test_attack_by_very_large_images_leaves_small_ones_quick(name: str) -> None:
    content = LARGE[name]()
    with front() as (port, pid):
        post(port, content)
        seen = many_pixels(port, pid, content, clients=8, seconds=20.0)
        print("\n" + seen.row(f"8 clients, {name}, {len(content)} bytes"))
        check_pixels(seen)
        assert percentile(seen.waits, 0.99) < 0.5


@pytest.mark.resilience
@pytest.mark.parametrize("query", ["", "?view=overlay"])
@pytest.mark.parametrize("name", ["WebP, 40 bytes", "PNG, interlaced", "JPEG, 92 scans"])
def test_attack_by_64_very_large_images_at_once_is_held_in_memory(name: str, query: str) -> None:
    with front() as (port, pid):
        seen = many_pixels(port, pid, LARGE[name](), clients=64, seconds=6.0, query=query)
        print("\n" + seen.row(f"64 clients, {name} {query}"))
        check_pixels(seen)
        time.sleep(3.0)
        assert resident_mb(pid) < seen.before_mb + 200


@pytest.mark.resilience
@pytest.mark.parametrize("piece", [b"a:\r\n" * 16_000, b"a" * 64_000], ids=["many", "one"])
def test_attack_by_trailers_without_end(piece: bytes) -> None:
    with front() as (port, pid):
        seen, sent = send_for_ever(port, pid, CHUNKED, piece, 9.0)
        print("\n" + seen.row(f"trailers without end, {sent / 1e6:.0f} MB taken"))
        assert seen.peak_mb < seen.before_mb + 50
        assert sent < 20_000_000
        assert max(seen.waits) < 0.5


@pytest.mark.resilience
def test_attack_by_pipelining() -> None:
    with front() as (port, pid):
        seen = pipelined(port, pid, connections=8, requests=13_000, seconds=8.0)
        print("\n" + seen.row("8 connections of 13 000 requests"))
        assert percentile(seen.waits, 0.99) < 0.05
        assert seen.peak_mb < seen.before_mb + 100
        photo = request(LARGE["PNG, 1 bit"]())
        seen = pipelined(port, pid, connections=50, requests=7_000, seconds=5.0, first=photo)
        print(seen.row("50 connections of 7 000 requests behind a large image"))
        assert seen.peak_mb < FRONT_MB


@pytest.mark.resilience
def test_attack_by_tiny_chunks() -> None:
    with front() as (port, pid):
        seen = tiny_chunks(port, pid, connections=8, seconds=8.0)
        print("\n" + seen.row("8 connections of bodies in chunks of a byte"))
        assert set(seen.statuses) == {400}
        assert percentile(seen.waits, 0.99) < 0.25
        assert seen.peak_mb < seen.before_mb + 50


@pytest.mark.resilience
def test_attack_by_empty_lines() -> None:
    with front() as (port, pid):
        seen = empty_lines(port, pid, connections=8, seconds=6.0)
        print("\n" + seen.row("8 connections of empty lines"))
        assert percentile(seen.waits, 0.99) < 0.25
        assert seen.peak_mb < seen.before_mb + 50


@pytest.mark.resilience
def test_attack_by_clients_that_take_nothing() -> None:
    with front() as (port, pid):
        live(port)
        time.sleep(1.0)
        before = sockets(pid)
        clients = deaf_clients(port, b"/openapi.json")
        most, end = sockets(pid), time.monotonic() + 45
        while sockets(pid) > before and time.monotonic() < end:
            time.sleep(0.5)
        print(f"\n| {len(clients)} clients that take nothing: {most} -> {sockets(pid)} sockets |")
        assert sockets(pid) <= before
        for client in clients:
            client.close()


@pytest.mark.resilience
@pytest.mark.parametrize("name", HEADERS)
def test_attack_by_headers_that_take_long_to_read(name: str) -> None:
    content = HEADERS[name]()
    with front() as (port, pid):
        seen = many_pixels(port, pid, content, clients=4, seconds=8.0)
        print("\n" + seen.row(f"4 clients, {name}, {len(content)} bytes"))
        assert set(seen.statuses) <= {200, 422}
        assert percentile(seen.waits, 0.99) < 0.5
        assert seen.peak_mb < seen.before_mb + 400


@pytest.mark.resilience
def test_attack_by_unfinished_uploads() -> None:
    with front(max_upload_bytes=UPLOAD_BYTES) as (port, pid):
        seen = uploads(port, pid, connections=300, size=20_000_000, seconds=9.0)
        print("\n" + seen.row("300 bodies of 20 MB less a byte"))
        assert set(seen.statuses) <= {429}
        assert seen.statuses[429] > 200
        assert seen.peak_mb < seen.before_mb + UPLOAD_BYTES / 1e6 + 500
        assert post(port, LARGE["GIF"]())[0] in (200, 429)


def test_large_images_are_admitted_before_they_are_decoded() -> None:
    content = plain(4000, "RGB", "WEBP", lossless=True, method=0)
    with front(max_queue_pixels=40_000_000) as (port, pid):
        seen = many_pixels(port, pid, content, clients=12, seconds=1.5)
        assert set(seen.statuses) == {200, 429}
        assert not seen.hurried
        assert seen.peak_mb < seen.before_mb + 500  # all twelve would take a gigabyte
        assert post(port, content)[0] == 200  # all was given back


def test_bodies_are_admitted_before_they_are_read() -> None:
    with front(max_upload_bytes=4_000_000) as (port, pid):
        seen = uploads(port, pid, connections=20, size=2_000_000, seconds=1.5)
        assert set(seen.statuses) == {429}
        assert seen.statuses[429] >= 17
        assert seen.peak_mb < seen.before_mb + 60
        assert post(port, plain(64, "RGB", "PNG"))[0] == 200


def test_answers_that_are_not_taken_count_as_bodies_do() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    with front(max_upload_bytes=9_000_000) as (port, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request(encode_png(noise), "/panoptic?view=overlay", Accept="image/png"))
            assert client.recv(12) == b"HTTP/1.1 200"  # and nothing more of seven megabytes
            body = request(bytes(6_000_000))
            assert exchange(port, body).startswith(b"HTTP/1.1 429 ")
        patience = time.monotonic() + 5
        while not exchange(port, body).startswith(b"HTTP/1.1 415 "):  # no image, but read
            assert time.monotonic() < patience


def test_trailers_without_end_are_cut() -> None:
    with front() as (port, pid):
        seen, sent = send_for_ever(port, pid, CHUNKED, b"a:\r\n" * 16_000, 3.0)
        assert sent < 20_000_000
        assert seen.peak_mb < seen.before_mb + 50


def test_tiny_chunks_are_refused_before_they_take_time() -> None:
    with front() as (port, pid):
        seen = tiny_chunks(port, pid, connections=4, seconds=1.5)
        assert set(seen.statuses) == {400}
        assert percentile(seen.waits, 0.9) < 0.25


def test_pipelined_requests_wait_unread() -> None:
    with front() as (port, pid):
        seen = pipelined(port, pid, connections=4, requests=7_000, seconds=2.0)
        assert seen.peak_mb < seen.before_mb + 60
        assert max(seen.waits) < 0.5


def started(port: int, log: Path, base_ms: int) -> subprocess.Popen[bytes]:
    """A front as `python -m service` sets it up, its log in a file, ready."""
    program = "from service.logs import set_up_logging; from tests.resilience.serve import main; "
    program += "set_up_logging('text', 'info'); main()"
    words = [sys.executable, "-c", program, "--port", str(port), "--base-ms", str(base_ms)]
    root = ROOT
    with log.open("wb") as file:
        process = subprocess.Popen(words, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stderr=file)
    while not exchange_status(port, b"/health/ready").startswith(b"HTTP/1.1 200"):
        time.sleep(0.1)
    return process


def exchange_status(port: int, path: bytes) -> bytes:
    with contextlib.suppress(OSError):
        return exchange(port, b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
    return b""


def test_strangers_write_a_line_a_second_of_their_kind(tmp_path: Path) -> None:
    port = free_port()
    process = started(port, tmp_path / "log", 0)
    try:
        quiet = (tmp_path / "log").stat().st_size
        malformed = request(b"--b\rno form", Content_Type="multipart/form-data; boundary=b")
        offer = request(b"", "/health/live", "GET", Connection="Upgrade", Upgrade="websocket")
        bad = request(plain(8, "RGB", "PNG")[:-30])
        began = time.monotonic()
        for _ in range(100):
            for sent in (malformed, offer, bad, b"no HTTP\r\n\r\n"):
                exchange(port, sent, patience=0.01)
        seconds = time.monotonic() - began
        lines = (tmp_path / "log").read_bytes()[quiet:].decode().splitlines()
        assert len(lines) < 4 * (seconds + 1)
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("signals", "status", "most_seconds"),
    [([signal.SIGQUIT], 200, 10.0), ([signal.SIGTERM, signal.SIGTERM], 503, 3.0)],
    ids=["QUIT drains", "a second TERM ends at once"],
)
def test_signals_end_it_cleanly(
    tmp_path: Path, signals: list[signal.Signals], status: int, most_seconds: float
) -> None:
    port = free_port()
    process = started(port, tmp_path / "log", 2500)
    sent = request(plain(64, "RGB", "PNG"))

    async def scenario() -> list[bytes]:
        answers = [asyncio.to_thread(exchange, port, sent, patience=20.0) for _ in range(3)]
        waiting = asyncio.gather(*answers)
        await asyncio.sleep(0.5)
        for number in signals:
            process.send_signal(number)
            await asyncio.sleep(0.2)
        return await waiting

    began = time.monotonic()
    answers = asyncio.run(scenario())
    assert process.wait(30) == 0
    assert time.monotonic() - began < most_seconds
    assert all(answer.startswith(b"HTTP/1.1 %d " % status) for answer in answers)
    assert status == 200 or all(b'"not_ready"' in answer for answer in answers)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_stopped_worker_is_noticed_and_replaced(tmp_path: Path) -> None:
    port = free_port()
    process = started(port, tmp_path / "log", 0)
    try:
        worker = next(
            pid for pid in tree(process.pid)[1:] if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        assert post(port, plain(64, "RGB", "PNG"))[0] == 200
        assert 4.0 < time.monotonic() - began < 20.0
        live(port)
        assert "was stopped" in (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(30)

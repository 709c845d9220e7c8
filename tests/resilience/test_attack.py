"""Attacks on a real front with an emulated worker: memory and the wait of others stay within wide margins.

    uv run pytest -m resilience -k attack -s

prints a table; short forms run by default.
"""

import socket
import time

import numpy as np
import pytest

from model.interface.codec import encode_png
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
from tests.resilience.client import percentile, request, running

FRONT_MB = 1500
"""With 200 Mpx admitted: 600 MB of photos, two batches shared with the worker, a decoder or two at work."""
UPLOAD_BYTES = 256 << 20
"""A 32nd of the memory that the compose file gives a container."""
CHUNKED = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"


def check_pixels(seen: Seen) -> None:
    assert set(seen.statuses) <= {200, 429}
    assert seen.statuses[200]
    assert not seen.hurried
    assert seen.peak_mb < FRONT_MB


@pytest.mark.resilience
@pytest.mark.parametrize("name", LARGE)
def test_attack_by_very_large_images_leaves_small_ones_quick(name: str) -> None:
    content = LARGE[name]()
    with running() as (port, pid):
        post(port, content)
        seen = many_pixels(port, pid, content, clients=8, seconds=20.0)
        print("\n" + seen.row(f"8 clients, {name}, {len(content)} bytes"))
        check_pixels(seen)
        assert percentile(seen.waits, 0.99) < 0.5


@pytest.mark.resilience
@pytest.mark.parametrize("query", ["", "?view=overlay"])
@pytest.mark.parametrize("name", ["WebP, 40 bytes", "PNG, interlaced", "JPEG, 92 scans"])
def test_attack_by_64_very_large_images_at_once_is_held_in_memory(name: str, query: str) -> None:
    with running() as (port, pid):
        seen = many_pixels(port, pid, LARGE[name](), clients=64, seconds=6.0, query=query)
        print("\n" + seen.row(f"64 clients, {name} {query}"))
        check_pixels(seen)
        time.sleep(3.0)
        assert resident_mb(pid) < seen.before_mb + 200


@pytest.mark.resilience
@pytest.mark.parametrize("piece", [b"a:\r\n" * 16_000, b"a" * 64_000], ids=["many", "one"])
def test_attack_by_trailers_without_end(piece: bytes) -> None:
    with running() as (port, pid):
        seen, sent = send_for_ever(port, pid, CHUNKED, piece, 9.0)
        print("\n" + seen.row(f"trailers without end, {sent / 1e6:.0f} MB taken"))
        assert seen.peak_mb < seen.before_mb + 50
        assert sent < 20_000_000
        assert max(seen.waits) < 0.5


@pytest.mark.resilience
def test_attack_by_pipelining() -> None:
    with running() as (port, pid):
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
    with running() as (port, pid):
        seen = tiny_chunks(port, pid, connections=8, seconds=8.0)
        print("\n" + seen.row("8 connections of bodies in chunks of a byte"))
        assert set(seen.statuses) == {400}
        assert percentile(seen.waits, 0.99) < 0.25
        assert seen.peak_mb < seen.before_mb + 50


@pytest.mark.resilience
def test_attack_by_empty_lines() -> None:
    with running() as (port, pid):
        seen = empty_lines(port, pid, connections=8, seconds=6.0)
        print("\n" + seen.row("8 connections of empty lines"))
        assert percentile(seen.waits, 0.99) < 0.25
        assert seen.peak_mb < seen.before_mb + 50


@pytest.mark.resilience
def test_attack_by_clients_that_take_nothing() -> None:
    with running() as (port, pid):
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
    with running() as (port, pid):
        seen = many_pixels(port, pid, content, clients=4, seconds=8.0)
        print("\n" + seen.row(f"4 clients, {name}, {len(content)} bytes"))
        assert set(seen.statuses) <= {200, 422}
        assert percentile(seen.waits, 0.99) < 0.5
        assert seen.peak_mb < seen.before_mb + 400


@pytest.mark.resilience
def test_attack_by_unfinished_uploads() -> None:
    with running(max_upload_bytes=UPLOAD_BYTES) as (port, pid):
        seen = uploads(port, pid, connections=300, size=20_000_000, seconds=9.0)
        print("\n" + seen.row("300 bodies of 20 MB less a byte"))
        assert set(seen.statuses) <= {429}
        assert seen.statuses[429] > 200
        assert seen.peak_mb < seen.before_mb + UPLOAD_BYTES / 1e6 + 500
        assert post(port, LARGE["GIF"]())[0] in (200, 429)


def test_large_images_are_admitted_before_they_are_decoded() -> None:
    content = plain(4000, "RGB", "WEBP", lossless=True, method=0)
    with running(max_queue_pixels=40_000_000) as (port, pid):
        seen = many_pixels(port, pid, content, clients=12, seconds=1.5)
        assert set(seen.statuses) == {200, 429}
        assert not seen.hurried
        assert seen.peak_mb < seen.before_mb + 500  # all twelve would take a gigabyte
        assert post(port, content)[0] == 200  # all was given back


def test_bodies_are_admitted_before_they_are_read() -> None:
    with running(max_upload_bytes=4_000_000) as (port, pid):
        seen = uploads(port, pid, connections=20, size=2_000_000, seconds=1.5)
        assert set(seen.statuses) == {429}
        assert seen.statuses[429] >= 17
        assert seen.peak_mb < seen.before_mb + 60
        assert post(port, plain(64, "RGB", "PNG"))[0] == 200


def test_answers_that_are_not_taken_count_as_bodies_do() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    with running(max_upload_bytes=9_000_000) as (port, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request(encode_png(noise), "/panoptic?view=overlay", Accept="image/png"))
            assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"  # and nothing more of seven megabytes
            body = request(bytes(6_000_000))
            assert exchange(port, body).startswith(b"HTTP/1.1 429 ")
        patience = time.monotonic() + 5
        while not exchange(port, body).startswith(b"HTTP/1.1 415 "):  # no image, but read
            assert time.monotonic() < patience


def test_trailers_without_end_are_cut() -> None:
    with running() as (port, pid):
        seen, sent = send_for_ever(port, pid, CHUNKED, b"a:\r\n" * 16_000, 3.0)
        assert sent < 20_000_000
        assert seen.peak_mb < seen.before_mb + 50


def test_tiny_chunks_are_refused_before_they_take_time() -> None:
    with running() as (port, pid):
        seen = tiny_chunks(port, pid, connections=4, seconds=1.5)
        assert set(seen.statuses) == {400}
        assert percentile(seen.waits, 0.9) < 0.25


def test_pipelined_requests_wait_unread() -> None:
    with running() as (port, pid):
        seen = pipelined(port, pid, connections=4, requests=7_000, seconds=2.0)
        assert seen.peak_mb < seen.before_mb + 60
        assert max(seen.waits) < 0.5

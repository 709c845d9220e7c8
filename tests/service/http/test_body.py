"""Bodies that are too large or too slow, over real sockets and by the clients that people use."""

import asyncio
import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import requests

from tests.resilience.client import free_port, our_server, serving

LIMIT = 1_000_000
BODY_SECONDS = 1.0
LARGE = b"\xff" * (3 * LIMIT)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a service that takes a megabyte in a second."""
    number = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSNET_MAX_BYTES", str(LIMIT))
        patch.setenv("UPSNET_BODY_TIMEOUT_MS", str(int(1000 * BODY_SECONDS)))
        with asyncio.Runner() as runner:
            server = serving(our_server(number), number)
            runner.run(server.__aenter__())
            yield number
            runner.run(server.__aexit__(None, None, None))


def in_pieces() -> Iterator[bytes]:
    for start in range(0, len(LARGE), 65_536):
        yield LARGE[start : start + 65_536]


def by_urllib(url: str, body: Any) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def by_requests(url: str, body: Any) -> tuple[int, bytes]:
    answer = requests.post(url, data=body, timeout=20)
    return answer.status_code, answer.content


def by_requests_form(url: str, body: bytes) -> tuple[int, bytes]:
    answer = requests.post(url, files={"image": body}, timeout=20)
    return answer.status_code, answer.content


def by_httpx(url: str, body: Any) -> tuple[int, bytes]:
    answer = httpx2.post(url, content=body, timeout=20)
    return answer.status_code, answer.content


@pytest.mark.parametrize(
    ("post", "body"),
    [
        (by_urllib, lambda: LARGE),
        (by_urllib, in_pieces),
        (by_requests, lambda: LARGE),
        (by_requests, in_pieces),
        (by_requests_form, lambda: LARGE),
        (by_httpx, lambda: LARGE),
        (by_httpx, in_pieces),
    ],
)
def test_a_client_that_sends_too_much_reads_the_answer(
    port: int, post: Callable[[str, Any], tuple[int, bytes]], body: Callable[[], Any]
) -> None:
    for _ in range(3):  # a reset would come now and then
        status, content = post(f"http://127.0.0.1:{port}/panoptic", body())
        assert status == 413
        assert json.loads(content)["code"] == "body_too_large"


def test_an_endless_body_is_cut(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", "/panoptic")
    connection.putheader("Content-Length", str(100 * LIMIT))
    connection.endheaders()
    began, sent = time.monotonic(), 0
    with pytest.raises(OSError):
        while sent < 100 * LIMIT:
            connection.send(LARGE)
            sent += len(LARGE)
    assert sent < 30 * LIMIT  # what the service reads on, and what buffers hold
    assert time.monotonic() - began < 10
    connection.close()


def test_a_body_that_drips_is_answered_with_408_and_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"POST /panoptic HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        began, answer = time.monotonic(), b""
        client.settimeout(0.05)
        while time.monotonic() - began < 8:
            try:
                if not (piece := client.recv(65_536)):
                    break
                answer += piece
            except TimeoutError:
                client.send(b"x")
    seconds = time.monotonic() - began
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"body_timeout"' in answer
    assert b"connection: close" in answer.lower()
    assert BODY_SECONDS <= seconds < BODY_SECONDS + 2


def test_headers_sent_by_half_are_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(b"POST /panoptic HTTP/1.1\r\nHost: a\r\nX-")
        began = time.monotonic()
        assert client.recv(100) == b""
        assert 8 < time.monotonic() - began < 13


def test_headers_without_end_are_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Long: ")
        sent = 0
        with pytest.raises(OSError):
            while sent < 50 * LIMIT:
                client.sendall(b"a" * 100_000)
                sent += 100_000
    assert sent < 10 * LIMIT


def test_headers_of_ordinary_length_are_not_cut(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(3):  # each request of a connection is counted anew
        connection.request("GET", "/health/live", headers={"X-Long": "a" * 40_000})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()


def test_a_form_of_many_parts_is_refused_at_once(port: int) -> None:
    form = b"--b\r\na:b\r\n\r\n\r\n" * 50_000
    began = time.monotonic()
    answer = requests.post(
        f"http://127.0.0.1:{port}/panoptic",
        form,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        timeout=20,
    )
    assert answer.status_code == 400
    assert "beside its image" in answer.json()["detail"]
    assert time.monotonic() - began < 0.5


def test_a_body_that_outlasts_the_deadline_is_answered_with_504(port: int) -> None:
    head = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nX-Deadline-Ms: 200\r\nContent-Length: 1000\r\n\r\nxx"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        began = time.monotonic()
        client.sendall(head)
        answer = client.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert 0.15 < time.monotonic() - began < BODY_SECONDS

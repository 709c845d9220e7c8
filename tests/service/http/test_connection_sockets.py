"""Connections that misbehave, over real sockets."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import requests
import uvicorn

from model.interface.codec import encode_png
from service.http import connection
from tests.resilience.client import free_port, our_server, request, serving
from tests.service.emulated import image

ANSWER = bytes(30_000_000)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a service whose batches take half a second."""
    number = free_port()
    with asyncio.Runner() as runner:
        running = serving(our_server(number, "--base-ms", "500"), number)
        runner.run(running.__aenter__())
        yield number
        runner.run(running.__aexit__(None, None, None))


def test_headers_without_end_behind_a_running_request_are_cut(port: int) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client, pytest.raises(OSError):
        client.sendall(request(encode_png(image())) + b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Long: ")
        while sent < 20_000_000:
            client.sendall(b"a" * 100_000)
            sent += 100_000
    assert sent < 10_000_000


def test_requests_sent_at_once_are_answered_in_order(port: int) -> None:
    one = request(b"", "/health/live", "GET", X_Long="a" * 30_000)
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(5 * one)
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 5:
            answers += client.recv(65_536)


def test_an_offer_of_http_2_is_not_heard_and_the_body_is(port: int) -> None:
    photo = encode_png(image())
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAA"}
    head, body = request(photo, **offer).split(b"\r\n\r\n", 1)
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        for _ in range(2):  # and again on the same connection
            client.sendall(head + b"\r\n\r\n")
            time.sleep(0.1)
            client.sendall(body)
            answer = b""
            while not answer.endswith(b'"}'):  # of its JSON, which may come in several segments
                answer += client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_body_that_holds_such_an_offer_stays_whole(port: int) -> None:
    body = b"no image\r\nUpgrade: h2c\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(request(body) + request(b"", "/health/live", "GET", Connection="close"))
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answers.startswith(b"HTTP/1.1 415 ")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.count(b"HTTP/1.1 200 OK") == 1


async def large(scope: Any, receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:  # noqa: ARG001
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(ANSWER))]})
    await send({"type": "http.response.body", "body": ANSWER})


@pytest.mark.parametrize("reads", [True, False])
def test_only_a_client_that_does_not_read_is_cut(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALL_SECONDS", 3.0 if reads else 0.3)
    number = free_port()

    async def scenario() -> int:
        config = uvicorn.Config(large, port=number, http=connection.GuardedProtocol, log_config=None, lifespan="off")
        serving = uvicorn.Server(config)
        task = asyncio.ensure_future(serving.serve())
        while not serving.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", number, limit=65_536)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(30):
            while not reads and not serving.server_state.connections:
                await asyncio.sleep(0.01)
            while not reads and serving.server_state.connections:
                await asyncio.sleep(0.01)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while taken < len(ANSWER) and (piece := await reader.read(1_000_000)):
                taken += len(piece)
                await asyncio.sleep(0.002)
        writer.close()
        serving.should_exit = True
        await task
        return taken

    taken = asyncio.run(scenario())
    assert (taken >= len(ANSWER)) is reads


def test_the_service_still_answers_after_all_that(port: int) -> None:
    assert requests.post(f"http://127.0.0.1:{port}/panoptic", encode_png(image()), timeout=20).status_code == 200

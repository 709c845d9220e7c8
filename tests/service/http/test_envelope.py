"""What every answer carries, and refusals that come before their request's body, over real sockets."""

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.http.envelope import DISCARD_SECONDS, Envelope
from tests.resilience.client import free_port, our_server, serving
from tests.service.halves import photo, settings
from tests.service.http.test_body import by_requests, by_urllib

LIMIT = 1_000_000
ROUTES = ["/", "/docs", "/metrics", "/model", "/openapi.json", "/health", "/health/live", "/health/ready"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a service that takes a megabyte."""
    number = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSNET_MAX_BYTES", str(LIMIT))
        with asyncio.Runner() as runner:
            server = serving(our_server(number), number)
            runner.run(server.__aenter__())
            yield number
            runner.run(server.__aexit__(None, None, None))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_answer_has_its_requests_id(tmp_path: Path, method: str) -> None:
    client = TestClient(create_app(settings(tmp_path)))
    for path in [*ROUTES, "/static/app.js", "/static/none", "/swagger/swagger-ui.css", "/none"]:
        answer = client.request(method, path, headers={"X-Request-ID": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1", path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.status_code == 405 or method != "POST" or path == "/none"


def test_blanks_around_a_value_are_no_part_of_it_behind_any_server() -> None:
    """The parser of Ray Serve's server leaves those behind it."""
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        seen.extend(scope["headers"])

    headers = [(b"x-api-key", b" \t two words\xa0\t "), (b"accept", b" "), (b"x-deadline-ms", b"5000 ")]
    asyncio.run(Envelope(app, LIMIT)({"type": "http", "method": "GET", "path": "/", "headers": headers}, None, None))  # type: ignore[arg-type]
    assert seen == [(b"x-api-key", b"two words\xa0"), (b"accept", b""), (b"x-deadline-ms", b"5000")]


def test_a_defect_outside_the_main_route_has_the_id_too(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    answer = TestClient(app, raise_server_exceptions=False).get("/broken", headers={"X-Request-ID": "abc-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "abc-1")
    assert answer.json()["request_id"] == "abc-1"
    assert "secret" not in answer.text


def test_a_defect_behind_the_start_of_an_answer_is_the_servers_to_cut(caplog: pytest.LogCaptureFixture) -> None:
    sent = []

    async def half(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        await send({"type": "http.response.start", "status": 200})
        raise RuntimeError("secret")

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with pytest.raises(RuntimeError, match="secret"):
        asyncio.run(Envelope(half, LIMIT)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))  # type: ignore[arg-type]
    assert sent == ["http.response.start"]
    assert not caplog.records  # the server logs what it is given


def test_a_defect_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(settings(tmp_path))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    TestClient(app).get("/broken")
    assert caplog.text.count("RuntimeError: secret") == 1


def test_a_slash_too_many_is_not_redirected(tmp_path: Path) -> None:
    client = TestClient(create_app(settings(tmp_path)), follow_redirects=False)
    assert client.post("/panoptic/", content=photo()).status_code == 404


@pytest.mark.parametrize("path", ["/", "/health/ready", "/static/app.js"])
def test_head_is_get_without_a_body(port: int, path: str) -> None:
    answers = []
    for method in ("GET", "HEAD"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path)
        answer = connection.getresponse()
        answers.append((answer.status, answer.headers["Content-Type"], answer.headers["Content-Length"]))
        assert bool(answer.read()) == (method == "GET")
        connection.close()
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("query", "status"), [("?view=none", 400), ("none", 404)])
@pytest.mark.parametrize("post", [by_urllib, by_requests])
def test_a_refusal_before_the_body_is_read_by_the_client(port: int, query: str, status: int, post: object) -> None:
    for _ in range(3):
        assert post(f"http://127.0.0.1:{port}/panoptic{query}", bytes(LIMIT - 1))[0] == status  # type: ignore[operator]


def test_a_body_that_drips_after_its_refusal_is_cut(port: int) -> None:
    began, answer, cut = time.monotonic(), b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"POST /panoptic?view=none HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        client.settimeout(0.2)
        while not cut and time.monotonic() - began < 6 * DISCARD_SECONDS:
            try:
                piece = client.recv(65_536)
                answer, cut = answer + piece, not piece
            except TimeoutError:
                with contextlib.suppress(OSError):  # cut meanwhile: the next read says so
                    client.send(b"x")
            except ConnectionResetError:
                cut = True
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert cut
    assert time.monotonic() - began >= DISCARD_SECONDS


def test_a_client_that_asks_before_it_sends_is_refused_at_once(port: int) -> None:
    head = b"POST /panoptic?view=none HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert b"100 Continue" not in answer

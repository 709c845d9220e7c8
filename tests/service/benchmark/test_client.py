"""The benchmark's client: addresses, prepared requests, and answers of servers that end in every way."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.benchmark.client import AddressError, Connection, Reply, Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://u:p@host", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(AddressError, match="expected http://HOST:PORT"):
        Target(url)


def test_a_path_is_kept_before_the_route() -> None:
    assert Target("http://host/vision/").request("GET", "/health").startswith(b"GET /vision/health HTTP/1.1\r\n")
    assert Target("http://host/panoptic").request("POST", "/panoptic").startswith(b"POST /panoptic HTTP/1.1\r\n")


def test_a_request_carries_its_form_and_its_key() -> None:
    target = Target("http://host:81", accept="image/png", api_key="secret")
    head, body = target.request("POST", "/panoptic", b"photo").split(b"\r\n\r\n")
    assert body == b"photo"
    assert head.decode().split("\r\n")[1:] == [
        "Host: host:81",
        "Accept: image/png",
        "X-API-Key: secret",
        "Content-Type: application/octet-stream",
        "Content-Length: 5",
    ]


@pytest.mark.parametrize(
    ("url", "port", "tls"), [("http://h", 80, False), ("https://h", 443, True), ("http://h:9", 9, False)]
)
def test_the_scheme_says_the_port_and_whether_to_encrypt(url: str, port: int, tls: bool) -> None:
    target = Target(url)
    assert (target.port, target.tls is not None) == (port, tls)


@pytest.mark.parametrize(("given", "seconds"), [(b"3", 3.0), (b"", 0.0), (b"soon", 0.0), (b"-1", 0.0)])
def test_a_wait_is_a_number_of_seconds_or_none(given: bytes, seconds: float) -> None:
    assert Reply(429, 0.0, {b"retry-after": given}, b"").retry_after == seconds


@pytest.mark.parametrize(("body", "fields"), [(b'{"a": 1}', {"a": 1}), (b"[1]", {}), (b"<html>", {}), (b"", {})])
def test_only_an_object_has_fields(body: bytes, fields: dict[str, int]) -> None:
    assert Reply(200, 0.0, {}, body).fields() == fields


def test_stages_are_read_from_server_timing() -> None:
    timing = Reply(200, 0.0, {b"server-timing": b"decode;dur=1.5, cache, infer;dur=20"}, b"").server_timing()
    assert timing == {"decode": 1.5, "infer": 20.0}
    assert Reply(200, 0.0, {}, b"").server_timing() == {}


def talk(answers: list[bytes], test: Callable[[Connection], Awaitable[Any]]) -> int:
    """Run a test against a server that gives each connection these answers and hangs up; how many it got."""
    served: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client is done before all are given
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            connection = Connection(Target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
            async with asyncio.timeout(5):
                await test(connection)
            connection.close()
            await asyncio.gather(*served)

    asyncio.run(scenario())
    return len(served)


LIVE = b"GET /health/live HTTP/1.1\r\n\r\n"


def test_a_connection_is_kept_and_opened_again_when_the_server_has_ended_it() -> None:
    async def test(connection: Connection) -> None:
        for _ in range(2):
            assert (await connection.send(LIVE)).body == b"hi"
        await asyncio.sleep(0.1)  # the server hangs up
        assert (await connection.send(LIVE)).status == 200

    assert talk([OK, OK], test) == 2


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def test(connection: Connection) -> None:
        reply = await connection.send(LIVE)
        assert (reply.status, reply.headers[b"x-a"], reply.body) == (200, b"B", b"all of it")

    talk([b"HTTP/1.1 200 OK\r\nX-A: B\r\n\r\nall of it"], test)


def test_an_answer_that_is_cut_is_an_error_of_the_connection() -> None:
    async def test(connection: Connection) -> None:
        with pytest.raises(ConnectionResetError, match="before the answer did"):
            await connection.send(LIVE)

    talk([OK[:-1]], test)


def test_what_is_no_http_is_an_error_of_the_address() -> None:
    async def test(connection: Connection) -> None:
        with pytest.raises(AddressError, match="does not speak HTTP"):
            await connection.send(LIVE)

    talk([b"SSH-2.0-OpenSSH_9.6\r\n"], test)

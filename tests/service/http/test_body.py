"""Bodies: whole and in pieces, and over real sockets too large or too slow, by the clients that people use."""

import asyncio
import contextlib
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
from fastapi import Request

from model.interface import host
from service.errors import BodyError, ClientGoneError, DeadlineExceededError, ServiceError, UploadsFullError
from service.http.body import FORM_OVERHEAD, PART_OVERHEAD, Upload, Uploads, read_image
from service.settings import Settings
from tests.resilience.client import free_port, our_server, serving

LIMIT = 1_000_000
BODY_SECONDS = 1.0
LARGE = b"\xff" * (3 * LIMIT)

FORM = "multipart/form-data; boundary=b"
TEXT = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n%b\r\n'
IMAGE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%b\r\n'
END = b"--b--\r\n"


def read(
    *chunks: bytes, kind: str = "image/jpeg", announced: int = 0, seconds: float = 5.0, ends: bool = True
) -> bytes:
    """What `read_image` takes, of at most ten bytes, from a body that comes in these chunks, or not to its end."""
    headers = [(b"content-type", kind.encode())]
    headers += [(b"content-length", b"%d" % announced)] if announced else []
    left = list(chunks)

    async def receive() -> Any:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or not ends}
        if not ends:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def scenario() -> bytes:
        with Upload(Uploads(max_bytes=1 << 20)) as upload:
            request = Request({"type": "http", "headers": headers}, receive)
            await read_image(request, upload, 10, seconds, time.monotonic() + 1)
            return upload.content

    return asyncio.run(scenario())


def refusal(*chunks: bytes, **how: Any) -> tuple[type, int, str]:
    with pytest.raises(ServiceError) as error:
        read(*chunks, **how)
    return type(error.value), error.value.status, error.value.detail


def test_a_body_is_its_chunks_together() -> None:
    assert read(b"12345", b"", b"67890") == b"1234567890"


@pytest.mark.parametrize("kind", ["image/jpeg", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b", ""])
def test_any_type_but_a_form_is_the_image_itself(kind: str) -> None:
    assert read(IMAGE[:10], kind=kind) == IMAGE[:10]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_first_part_named_image_is_the_image_wherever_the_form_is_split(step: int) -> None:
    form = TEXT % b"--b" + IMAGE % b"first" + IMAGE % b"second" + END
    assert read(*(form[start : start + step] for start in range(0, len(form), step)), kind=FORM) == b"first"


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", "image/jpeg", "is empty"),
        (IMAGE % b"" + END, FORM, "is empty"),
        (TEXT % b"1" + END, FORM, "no part named `image`"),
        (IMAGE % b"1", FORM, "before its last boundary"),
        (b"no form", FORM, "is malformed"),
        (END, "multipart/form-data", "is malformed"),
        (TEXT % bytes(FORM_OVERHEAD - PART_OVERHEAD), FORM, "bytes beside its image"),
        (TEXT % b"" * (FORM_OVERHEAD // PART_OVERHEAD + 1), FORM, "bytes beside its image"),
    ],
)
def test_a_body_without_an_image_is_400(body: bytes, kind: str, says: str) -> None:
    error, status, detail = refusal(body, kind=kind)
    assert (error, status) == (BodyError, 400)
    assert says in detail


def test_an_image_of_the_limit_is_taken_and_of_a_byte_more_refused() -> None:
    assert read(bytes(10)) == bytes(10)
    assert refusal(bytes(10), b"1")[:2] == (BodyError, 413)
    assert read(IMAGE % bytes(10) + END, kind=FORM) == bytes(10)
    assert refusal(IMAGE % bytes(11) + END, kind=FORM)[:2] == (BodyError, 413)


def test_a_body_that_announces_too_much_is_not_read() -> None:
    assert refusal(announced=11, ends=False)[:2] == (BodyError, 413)


def test_the_sooner_of_its_time_and_its_deadline_ends_a_body_that_does_not_come() -> None:
    assert refusal(b"1", seconds=0.05, ends=False)[:2] == (BodyError, 408)
    assert refusal(b"1", seconds=5.0, ends=False)[:2] == (DeadlineExceededError, 504)


def test_a_client_that_leaves_within_its_body_is_gone() -> None:
    assert refusal()[0] is ClientGoneError


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
    assert time.monotonic() - began < 20
    connection.close()


def test_a_body_that_drips_is_answered_with_408_and_cut(port: int) -> None:
    began, answer, cut = time.monotonic(), b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"POST /panoptic HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        client.settimeout(0.05)
        while not cut and time.monotonic() - began < 30:
            try:
                piece = client.recv(65_536)
                answer, cut = answer + piece, not piece
            except TimeoutError:
                with contextlib.suppress(OSError):  # cut meanwhile: the next read says so
                    client.send(b"x")
            except ConnectionResetError:
                cut = True
    seconds = time.monotonic() - began
    assert cut
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"body_timeout"' in answer
    assert b"connection: close" in answer.lower()
    assert seconds >= BODY_SECONDS


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
    assert time.monotonic() - began < 5.0


def test_a_body_that_outlasts_the_deadline_is_answered_with_504(port: int) -> None:
    head = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nX-Deadline-Ms: 200\r\nContent-Length: 1000\r\n\r\nxx"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        began = time.monotonic()
        client.sendall(head)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 504  # at the end of the time for bodies it would be 408
        assert time.monotonic() - began > 0.15


def test_bodies_together_keep_to_the_bound_and_one_alone_is_taken_whatever_its_size() -> None:
    uploads = Uploads(max_bytes=10)
    with Upload(uploads) as alone:
        alone.write(b"12345678")
        alone.write(b"12345678")
        assert alone.content == b"1234567812345678"
        with Upload(uploads) as other, pytest.raises(UploadsFullError) as refusal:
            other.write(b"1")
        assert refusal.value.status == 429
        assert refusal.value.retry_after
    assert uploads.held == 0
    with Upload(uploads) as one, Upload(uploads) as two:
        one.write(b"12345")
        two.write(b"12345")
        with pytest.raises(UploadsFullError):
            two.write(b"6")
        with pytest.raises(UploadsFullError):
            Upload(uploads).check(1)
    assert uploads.held == 0


def test_an_upload_gives_up_its_bytes_once() -> None:
    uploads = Uploads(max_bytes=10)
    with Upload(uploads) as upload:
        upload.write(memoryview(b"1234"))
        with upload:
            assert uploads.held == 4
        assert (uploads.held, upload.content) == (0, b"")
    assert uploads.held == 0


def test_the_bound_follows_the_memory_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "memory", lambda: 8 << 30)
    assert Settings().max_upload_bytes == (8 << 30) // 32

"""The end of the service: signals, the drain, and what becomes of answers."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.interface.codec import encode_png
from service.server import LINGER_SECONDS
from tests.resilience.attack import exchange, plain, saved
from tests.resilience.client import free_port, in_flight, logged_front, our_server, request, serving, status

PHOTO = request(plain(64, "RGB", "PNG"))


def test_an_answer_is_sent_whole_after_sigterm() -> None:
    number = free_port()
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)

    async def scenario() -> bytes:
        async with serving(our_server(number, "--base-ms", "200"), number) as pid:
            reader, writer = await asyncio.open_connection("127.0.0.1", number, limit=65_536)
            writer.write(request(encode_png(noise), "/panoptic?view=overlay", Accept="image/png"))
            head = await reader.readuntil(b"\r\n\r\n")
            os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(3 * LINGER_SECONDS)
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(size)
            writer.close()
            return body

    assert asyncio.run(scenario()).endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(
    ("signals", "answered", "base_ms"),
    [([signal.SIGQUIT], 200, 1000), ([signal.SIGTERM, signal.SIGTERM], 503, 60_000)],
    ids=["QUIT drains", "a second TERM ends at once"],
)
def test_signals_end_it_cleanly(tmp_path: Path, signals: list[signal.Signals], answered: int, base_ms: int) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", base_ms)

    async def scenario() -> list[bytes]:
        answers = [asyncio.to_thread(exchange, port, PHOTO, patience=20.0) for _ in range(3)]
        waiting = asyncio.gather(*answers)
        await until_in_flight(port, 3)
        for number in signals:
            process.send_signal(number)
            await asyncio.sleep(0.2)
        return await waiting

    began = time.monotonic()
    answers = asyncio.run(scenario())
    assert process.wait(30) == 0
    assert time.monotonic() - began < 15.0  # the drain has 20
    assert all(answer.startswith(b"HTTP/1.1 %d " % answered) for answer in answers)
    assert answered == 200 or all(b'"not_ready"' in answer for answer in answers)
    assert "Traceback" not in (tmp_path / "log").read_text()


async def until_in_flight(port: int, count: int) -> None:
    """Return when so many requests are being answered."""
    async with asyncio.timeout(30):
        while await asyncio.to_thread(in_flight, port) < count:
            await asyncio.sleep(0.05)


async def terminated(process: "subprocess.Popen[bytes]", *sent: bytes) -> list[bytes]:
    """The answers to requests that were under way when SIGTERM came."""
    port = int(process.args[process.args.index("--port") + 1])  # type: ignore[index, union-attr]
    waiting = asyncio.gather(*(asyncio.to_thread(exchange, port, one, patience=20.0) for one in sent))
    await until_in_flight(port, len(sent))
    process.send_signal(signal.SIGTERM)
    return await waiting


def test_the_listener_stays_open_for_a_second_and_new_work_is_refused(tmp_path: Path) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 0)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    while status(port, "/health/ready") == 200:
        assert time.monotonic() < began + LINGER_SECONDS
    seen = set()
    while time.monotonic() < began + 0.9 * LINGER_SECONDS:
        found = status(port, "/health/ready"), status(port, "/health/live"), said(port)
        if time.monotonic() < began + LINGER_SECONDS:  # else the host was busy for too long to tell
            seen.add(found)
    assert seen == {(503, 200, b"503")}
    assert process.wait(30) == 0
    assert "draining: 0 requests in flight, 20 s at most" in (tmp_path / "log").read_text()


def said(port: int) -> bytes:
    """The status of the answer to a photo; empty where nothing listens."""
    try:
        return exchange(port, PHOTO)[9:12]
    except OSError:
        return b""


def test_what_outlives_the_drain_gets_503(tmp_path: Path) -> None:
    process = logged_front(free_port(), tmp_path / "log", 60_000, drain_seconds=2)
    began = time.monotonic()
    answers = asyncio.run(terminated(process, PHOTO, PHOTO))
    assert process.wait(30) == 0
    assert time.monotonic() - began < 30.0
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"The service has stopped. Try again soon." in answer
    log = (tmp_path / "log").read_text()
    assert "draining: 2 requests in flight, 2 s at most" in log
    assert "gave up 2 requests that were in flight" in log
    assert "Traceback" not in log


def in_every_place() -> list[tuple[bytes, ...]]:
    """Requests that are still under way two seconds later: on the device, in the queue, decoded, or not whole."""
    large = request(saved(Image.effect_noise((2500, 2500), 60), "PNG"))
    cut = PHOTO[:-10]
    asked = request(b"", Expect="100-continue").replace(b"Length: 0", b"Length: 1000")
    chunked = b"POST /panoptic HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"
    form = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 900\r\n\r\n--x\r\n"
    in_a_form = b"POST /panoptic HTTP/1.1\r\nHost: x\r\n" + form
    return [
        (PHOTO,),
        (PHOTO,),
        (PHOTO,),
        *4 * [(large,)],
        (cut,),
        (cut[:-5], b"\0"),
        (asked,),
        (chunked,),
        (in_a_form,),
    ]


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT], [signal.SIGQUIT], [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]],
    ids=["TERM", "INT", "QUIT", "in a hurry"],
)
def test_whatever_is_under_way_at_the_end_of_the_drain_gets_503(tmp_path: Path, signals: list[signal.Signals]) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 60_000, drain_seconds=2)
    sent = in_every_place()

    async def scenario() -> list[bytes]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(sent)))
        waiting = asyncio.gather(*(asyncio.to_thread(exchange, port, *parts, patience=20.0) for parts in sent))
        await asyncio.sleep(1.0)
        for number in signals:
            process.send_signal(number)
            await asyncio.sleep(0.1)
        return await waiting

    answers = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert process.wait(30) == 0
    for parts, answer in zip(sent, answers, strict=True):
        head, _, body = re.sub(rb"HTTP/1\.1 100 .*\r\n\r\n", b"", answer, count=1).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 "), (parts[0][:200], answer)
        lines = {line.lower() for line in head.split(b"\r\n")}
        assert {b"content-type: application/problem+json", b"connection: close", b"retry-after: 5"} <= lines
        assert any(line.startswith(b"x-request-id: ") for line in lines)
        assert json.loads(body)["code"] == "not_ready"
    log = (tmp_path / "log").read_text()
    for word in ("Traceback", "Exception", "sha256", "ERROR"):
        assert word not in log, log


def test_several_requests_on_one_connection_end_with_it(tmp_path: Path) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 60_000, drain_seconds=2)
    (answer,) = asyncio.run(terminated(process, PHOTO + PHOTO))
    assert process.wait(30) == 0
    assert answer.count(b"HTTP/1.1 503 ") == answer.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_service_that_is_stopped_while_it_loads_says_so_and_ends_soon(tmp_path: Path) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 0, "--load-seconds", "60", ready=503)
    answer = exchange(port, PHOTO, patience=20.0)
    assert b'"detail":"The model is loading' in answer
    seconds = re.search(rb"retry-after: (\d+)\r", answer)
    assert seconds
    assert 1 < int(seconds[1]) <= 60
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    while b"stopping" not in (answer := exchange(port, PHOTO, patience=0.2)):  # until the signal is heard
        assert time.monotonic() - began < 5.0
    assert b"The service is stopping. Try again soon." in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert process.wait(30) == 0
    assert time.monotonic() - began < 20.0  # loading takes a minute
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_client_that_takes_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 0, drain_seconds=3)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(request(encode_png(noise), "/panoptic?view=overlay", Accept="image/png"))
        assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"  # and nothing more of seven megabytes
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert 1.0 < time.monotonic() - began < 20.0

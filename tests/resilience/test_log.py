"""What a front writes when strangers misbehave, and when its worker is stopped."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import SHARED
from tests.resilience.attack import exchange, live, plain, post
from tests.resilience.client import free_port, logged_front, request, tree
from tests.service.hostile import Named, hostile
from tests.service.noise import fax_noise

BYTES_PER_REQUEST = 2048


def test_strangers_write_a_line_a_second_of_their_kind(tmp_path: Path) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 0)
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


def test_a_stopped_worker_is_noticed_and_replaced(tmp_path: Path) -> None:
    port = free_port()
    process = logged_front(port, tmp_path / "log", 0)
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


def noisy_files(count: int) -> Iterator[Named]:
    """Files that make decoders write; those of others where they are there."""
    yield "group 3", fax_noise(compression=3)
    yield "group 4", fax_noise(compression=4)
    for path in sorted(SHARED.glob("faults/images/*_*.*")):
        yield path.name, path.read_bytes()
    yield from hostile(18, count)


@pytest.mark.resilience
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("worker", [(), ("--noisy",)], ids=["plain", "noisy"])
def test_no_file_makes_libraries_fill_the_log(form: str, worker: tuple[str, ...], tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    process = logged_front(port, log, 0, *worker, form=form)
    try:
        began, sizes = log.stat().st_size, {}
        for number, (name, content) in enumerate(noisy_files(150)):
            before = log.stat().st_size
            assert post(port, content)[0] in (200, 400, 413, 415, 422)
            if number < 5 or not number % 20:
                time.sleep(0.2)  # of what is written it comes later
            sizes[f"{number} {name}"] = log.stat().st_size - before
        assert max(sizes.values()) <= BYTES_PER_REQUEST, sorted(sizes.items(), key=lambda item: -item[1])[:5]
        assert post(port, plain(64, "RGB", "PNG"))[0] == 200
    finally:
        process.terminate()
        assert process.wait(30) == 0
    print(f"{form} {worker}: {len(sizes)} requests, {log.stat().st_size - began} bytes, {max(sizes.values())} at most")
    for line in log.read_text(encoding="utf-8").splitlines():
        if form == "json":
            assert json.loads(line)["message"]
        else:
            assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \S+: ", line), line
    assert ("more lines of libraries" in log.read_text()) == bool(worker)
    assert ("oneDNN" in log.read_text()) == bool(worker)

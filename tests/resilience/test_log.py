"""What a front writes when strangers misbehave, and when its worker is stopped."""

import os
import signal
import time
from pathlib import Path

from tests.resilience.attack import exchange, live, plain, post
from tests.resilience.client import free_port, logged_front, request, tree


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

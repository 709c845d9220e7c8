"""The command: its exit status, and one line for what is foreseen."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def command(**changes: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **changes}
    return subprocess.run(
        [sys.executable, "-m", "service"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_taken_port_ends_the_start_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = command(UPSNET_PORT=port, UPSNET_LOG_LEVEL="error")
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1:{port}. Set UPSNET_PORT")


def test_a_wrong_setting_ends_it_in_one_line() -> None:
    run = command(UPSNET_PORT="http")
    assert run.returncode == 1
    assert run.stderr.startswith("error: UPSNET_PORT='http': ")
    assert run.stderr.count("\n") == 1


def test_an_archive_that_cannot_be_loaded_ends_it_in_one_line(tmp_path: Path) -> None:
    archive = tmp_path / "a.pt"
    archive.write_bytes(b"no archive")
    run = command(UPSNET_MODEL=str(archive), UPSNET_PORT="0", UPSNET_DEVICE="cpu", UPSNET_LOG_LEVEL="error")
    assert run.returncode == 1
    assert "cannot start: " in run.stderr
    assert "Traceback" not in run.stderr

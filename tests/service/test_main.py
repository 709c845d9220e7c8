"""The command: its exit status, and one line for what is wrong, told before anything listens."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from model.interface.archive_file import sha256
from service import gpus
from tests.paths import DEMO, ROOT

SECONDS = 2.0
"""What a refusal may take, of processor time: other work on the host takes its own."""
PROGRAM = """
import resource, runpy, socket, sys

class Silent(socket.socket):
    def listen(self, *_):
        raise AssertionError("it listened")

socket.socket = Silent
sys.argv = ["service"]
try:
    runpy.run_module("service", run_name="__main__")
finally:
    assert not {"torch", "service.app"} & set(sys.modules)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime)
"""


def refused(changes: Mapping[str, str], cwd: Path = ROOT) -> str:
    """What the command says, in one line, before it listens, within seconds and without the application or torch."""
    environment = {name: value for name, value in os.environb.items() if not name.startswith(b"UPSNET_")}
    environment |= {os.fsencode(f"UPSNET_{name}"): os.fsencode(value) for name, value in changes.items()}
    environment[b"PYTHONPATH"] = os.fsencode(ROOT)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert len(run.stderr) <= 310
    assert float(run.stdout) < SECONDS
    return run.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"PORT": "http"}, "UPSNET_PORT='http': "),
        ({"MAX_QUEUE": "1" + 30 * "0"}, "UPSNET_MAX_QUEUE='1000000000000000000000000000000': "),
        ({"API_KEYS": ","}, "UPSNET_API_KEYS: nothing stands between the commas; leave it empty to let everybody in"),
        ({"API_KEYS": "schl\udcfcssel"}, "UPSNET_API_KEYS: key 1 of 1 has "),
        ({"HOST": "nosuch.invalid"}, "UPSNET_HOST='nosuch.invalid': no such host"),
        ({"HOST": "300.1.1.1"}, "UPSNET_HOST='300.1.1.1': no such host"),
        ({"MODEL": ""}, "UPSNET_MODEL='': no archive is named"),
        ({"MODEL": "README.md"}, "UPSNET_MODEL: README.md is not an archive"),
        ({"MODEL": "nosuch.pt"}, "UPSNET_MODEL: nosuch.pt does not exist"),
        ({"DEVICE": "cpu", "PRECISION": "float16"}, "UPSNET_PRECISION='float16' needs a GPU"),
        ({"WARMUP_SIZES": "70000x10"}, "UPSNET_WARMUP_SIZES: 70000x10 has a side over 65535"),
        ({"MAX_PIXELS": "1000000000000"}, "UPSNET_MAX_PIXELS=1000000000000: such an image takes 4000.0 GB"),
    ],
    ids=lambda value: ascii(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_one_line(changes: dict[str, str], told: str) -> None:
    assert refused({"PORT": "0", **changes}).startswith(told)


def test_a_device_that_is_not_there_is_one_line() -> None:
    if gpus.look().count is None:
        pytest.skip("nobody knows which GPUs there are")
    assert refused({"PORT": "0", "DEVICE": "cuda:900"}).startswith("UPSNET_DEVICE='cuda:900': there is no cuda:900: ")


def test_a_taken_port_is_one_line_before_anything_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = refused({"PORT": str(port)})
    assert told == f"UPSNET_PORT={port}: the port is in use on 127.0.0.1. Set UPSNET_PORT to a free port."


def test_an_archive_that_is_not_the_manifests_is_one_line(tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "a.pt")
    (tmp_path / "manifest.json").write_text('{"a.pt": {"sha256": "0123456789abcdef"}}')
    told = refused({"PORT": "0", "MODEL": "a.pt"}, tmp_path)
    assert told.startswith(f"UPSNET_MODEL: a.pt has sha256 {sha256(DEMO)[:12]}..., its manifest lists 0123456789ab...")


@pytest.mark.parametrize("step", ["service.settings", "service.app", "service.server"])
def test_a_start_that_is_interrupted_says_nothing(step: str) -> None:
    program = f"""
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == {step!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["service"]
runpy.run_module("service", run_name="__main__")
"""
    environment = {**os.environ, "UPSNET_PORT": "0"}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


def test_the_command_takes_no_arguments() -> None:
    run = subprocess.run([sys.executable, "-m", "service", "8000"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "unrecognized arguments: 8000" in run.stderr


def test_an_empty_host_is_loopback_and_a_start_is_not_held_up(tmp_path: Path) -> None:
    """The service is asked where it listens, and ended before its model is loaded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "UPSNET_HOST": "", "UPSNET_PORT": str(port), "UPSNET_DEVICE": "cpu"}
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=file)
    try:
        end = time.monotonic() + 60
        while "Uvicorn running on" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.05)
        assert f"Uvicorn running on http://127.0.0.1:{port} " in log.read_text()
        with socket.socket() as other:  # with every address taken, this one could not be had
            other.bind(("127.0.0.77", port))
            other.listen()
    finally:
        process.terminate()
        assert process.wait(60) in (0, 1)

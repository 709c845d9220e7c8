"""What every setting does: in a real service with all of them set, and in the engine for those of the queue."""

import asyncio
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from model.interface.codec import OpenImage
from service.errors import QueueFullError, UploadsFullError
from service.settings import Settings
from tests.paths import DEMO, ROOT
from tests.service.devices import in_loop, turns
from tests.service.emulated import image
from tests.service.engines import ask, background, gauge, make, started, until

IN_FILE = {
    "HOST": "127.0.0.9",
    "DEVICE": "CPU",
    "PRECISION": "Float32",
    "KERNELS": "Off",
    "MAX_BATCH_SIZE": "2",
    "MAX_BATCH_PIXELS": "9000000",
    "MAX_QUEUE": "5",
    "MAX_QUEUE_PIXELS": "7000000",
    "DEADLINE_MS": "60000",
    "MAX_BYTES": "300000",
    "MAX_UPLOAD_BYTES": "8000000",
    "MAX_PIXELS": "1000000",
    "BODY_TIMEOUT_MS": "700",
    "DECODE_THREADS": "3",
    "WARMUP_SIZES": "32x24, 24X32",
    "DRAIN_SECONDS": "9",
    "API_KEYS": "first, second",
    "LOG_FORMAT": " JSON ",
    "LOG_LEVEL": "info",
    "PROT": "1",
}


class Service(NamedTuple):
    """A service that is ready.

    Attributes:
        port: where it listens, on 127.0.0.9.
        log: its standard error.
    """

    port: int
    log: Path

    def send(self, method: str, path: str, body: bytes | None = None, key: str = "second") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.9", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"X-API-Key": key} if key else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def post(self, body: bytes) -> int:
        return self.send("POST", "/panoptic", body)[0]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def photo(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 160, 30)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its settings are in `.env`, but for those of this run."""
    folder = tmp_path_factory.mktemp("service")
    shutil.copy(DEMO, folder / "renamed.pt")
    (folder / ".env").write_text("".join(f"UPSNET_{name}={value}\n" for name, value in IN_FILE.items()))
    with socket.socket() as free:
        free.bind(("127.0.0.9", 0))
        port = free.getsockname()[1]
    own = {"MODEL": "renamed.pt", "PORT": str(port), "LOG_LEVEL": "DEBUG", "MAX_QUEUE": ""}
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("UPSNET_")}
    environment |= {f"UPSNET_{name}": value for name, value in own.items()}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHON_DOTENV_DISABLED": ""}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "service"], cwd=folder, env=environment, stderr=log)
    try:
        running = Service(port, folder / "log")
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert process.poll() is None, running.log.read_text()
            with contextlib.suppress(OSError):
                if running.send("GET", "/health/ready")[0] == 200:
                    break
            time.sleep(0.1)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "draining: 0 requests in flight, 9 s at most" in running.log.read_text()


def limits(service: Service) -> dict[str, int]:
    return dict(service.send("GET", "/model")[1]["limits"])


def slow_body(service: Service) -> int:
    """The status for a body that stops coming."""
    with socket.create_connection(("127.0.0.9", service.port), timeout=10) as client:
        head = "POST /panoptic HTTP/1.1\r\nHost: a\r\nX-API-Key: first\r\nContent-Length: 100\r\n\r\n"
        client.sendall(head.encode() + b"half")
        return int(client.makefile("rb").readline().split()[1])


def listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def messages(service: Service, level: str) -> str:
    return "\n".join(line["message"] for line in service.lines() if line["level"] == level)


BIG = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
"""As PNG 600 kB."""


def big_file() -> bytes:
    file = io.BytesIO()
    Image.fromarray(BIG).save(file, "PNG")
    return file.getvalue()


IN_SERVICE: dict[str, Callable[[Service], bool]] = {
    "model": lambda service: service.send("GET", "/model")[1]["model"].startswith("upsnet-camvid-demo@"),
    "device": lambda service: service.send("GET", "/model")[1]["device"] == "cpu",
    "precision": lambda service: service.send("GET", "/model")[1]["precision"] == "float32",
    "kernels": lambda service: service.send("GET", "/model")[1]["kernel"] == "gather",
    "host": lambda service: listens("127.0.0.9", service.port) and not listens("127.0.0.1", service.port),
    "port": lambda service: listens("127.0.0.9", service.port),
    "max_queue": lambda service: limits(service)["max_queue"] == 5,  # an empty variable does not hide the file's
    "max_queue_pixels": lambda service: limits(service)["max_queue_pixels"] == 7_000_000,
    "deadline_ms": lambda service: limits(service)["deadline_ms"] == 60_000,
    "max_bytes": lambda service: service.post(big_file()) == 413,
    "max_upload_bytes": lambda service: limits(service)["max_upload_bytes"] == 8_000_000,
    "max_pixels": lambda service: (service.post(photo(1000, 1001)), service.post(photo(64, 48))) == (413, 200),
    "body_timeout_ms": lambda service: slow_body(service) == 408,
    "warmup_sizes": lambda service: "warmed up with 2 batches in" in messages(service, "info"),
    "drain_seconds": lambda _: True,  # the fixture looks at the end of the log
    "api_keys": lambda service: (
        [service.send("GET", "/model", key=key)[0] for key in ("first", "third", "")] == [200, 401, 401]
    ),
    "log_format": lambda service: len(service.lines()) > 2,
    "log_level": lambda service: service.post(photo(64, 48)) == 200 and "200 ok after " in messages(service, "debug"),
}
IN_ENGINE = {"decode_threads", "max_batch_size", "max_batch_pixels"}


def test_every_setting_has_its_effect_below() -> None:
    assert set(IN_SERVICE) | IN_ENGINE == set(Settings.model_fields)
    assert {name.lower() for name in IN_FILE} | {"model", "port"} >= set(Settings.model_fields)


@pytest.mark.parametrize("name", IN_SERVICE)
def test_a_setting_has_its_effect_in_a_service(service: Service, name: str) -> None:
    assert IN_SERVICE[name](service)


def test_a_name_that_sets_nothing_is_warned_of(service: Service) -> None:
    assert messages(service, "warning").startswith(
        "No settings, so they change nothing: UPSNET_PROT (did you mean UPSNET_PORT?)."
    )


def test_debug_has_a_line_for_each_batch(service: Service) -> None:
    assert service.post(photo(64, 48)) == 200
    assert "a batch of 1, " in messages(service, "debug")


@in_loop
@pytest.mark.parametrize(
    ("changes", "largest"),
    [({"max_batch_size": 2}, 2), ({"max_batch_size": 3}, 3), ({"max_batch_size": 8, "max_batch_pixels": 1}, 1)],
)
async def test_a_batch_is_bounded(tmp_path: Path, changes: dict[str, int], largest: int) -> None:
    engine, backend = make(tmp_path, **changes)
    async with started(engine, backend):
        backend.gate.clear()
        asking = [background(ask(engine)) for _ in range(9)]
        await until(lambda: gauge(engine, 'stage_seconds_count{stage="decode"}') == 9)
        await turns()  # all but those that the device has are in the queue
        backend.gate.set()
        await asyncio.gather(*asking)
    assert max(backend.batches) == largest


@in_loop
@pytest.mark.parametrize("changes", [{"max_queue": 2}, {"max_queue_pixels": 2 * image().size // 3}])
async def test_the_queue_is_bounded(tmp_path: Path, changes: dict[str, int]) -> None:
    engine, backend = make(tmp_path, **changes)
    async with started(engine, backend):
        backend.gate.clear()
        asking = [background(ask(engine)) for _ in range(8)]
        await until(lambda: any(each.done() for each in asking))
        await turns()
        backend.gate.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(each) for each in found} == {bytes, QueueFullError}


@in_loop
async def test_so_many_threads_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, decode = threading.Barrier(3), OpenImage.decode

    def in_threes(opened: OpenImage) -> Any:
        together.wait(5)
        return decode(opened)

    monkeypatch.setattr(OpenImage, "decode", in_threes)
    engine, backend = make(tmp_path, decode_threads=3)
    async with started(engine, backend):
        await asyncio.gather(*(ask(engine) for _ in range(9)))
        assert sum(thread.name.startswith("decode_") for thread in threading.enumerate()) == 3


@in_loop
async def test_uploads_are_bounded(tmp_path: Path) -> None:
    engine, _ = make(tmp_path, max_upload_bytes=10)
    engine.uploads.check(100)  # alone
    with engine.uploads.holding(6), pytest.raises(UploadsFullError):
        assert gauge(engine, "upload_bytes") == 6
        engine.uploads.check(5)

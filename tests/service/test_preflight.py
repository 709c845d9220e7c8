"""What this host or archive does not allow is refused, for every setting that can be so wrong."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model.interface import host
from service import gpus, preflight
from service.gpus import Gpus
from service.settings import Settings, SettingsError
from tests.paths import DEMO, ROOT

SIDE = int((host.memory() / preflight.RUN_BYTES) ** 0.5) + 1
"""Of a square image for which a worker on a CPU has no memory."""


@pytest.fixture(autouse=True)
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@contextlib.contextmanager
def taken(host: str = "127.0.0.1") -> Iterator[int]:
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        yield other.getsockname()[1]


def refusal(check: Callable[[], None]) -> str:
    for _ in range(3):  # a busy host may be slow once
        start = time.monotonic()
        with pytest.raises(SettingsError) as error:
            check()
        if (seconds := time.monotonic() - start) < 2:
            break
    assert seconds < 2
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 300
    return str(error.value)


NO_LIMIT_HERE = "no host and no archive makes a value of this form impossible"
HERE: dict[str, dict[str, Any] | str] = {
    "model": {"model": Path("README.md")},
    "device": {"device": "cuda:900"},
    "precision": {"precision": "float16"},
    "kernels": "off is for GPUs, and changes nothing without one",
    "host": {"host": "192.0.2.1"},
    "port": {"port": "taken"},
    "max_batch_size": NO_LIMIT_HERE,
    "max_batch_pixels": "a larger image goes alone",
    "max_queue": NO_LIMIT_HERE,
    "max_queue_pixels": "a larger image is taken while there is no other",
    "deadline_ms": NO_LIMIT_HERE,
    "max_bytes": NO_LIMIT_HERE,
    "max_upload_bytes": "a larger body is taken while there is no other",
    "max_pixels": {"max_pixels": host.memory()},
    "body_timeout_ms": NO_LIMIT_HERE,
    "decode_threads": "threads are started when there is work for them",
    "warmup_sizes": {"warmup_sizes": ((SIDE, SIDE),), "max_pixels": SIDE * SIDE},
    "drain_seconds": NO_LIMIT_HERE,
    "api_keys": NO_LIMIT_HERE,
    "log_format": NO_LIMIT_HERE,
    "log_level": NO_LIMIT_HERE,
}


def test_each_setting_has_its_say() -> None:
    assert set(HERE) == set(Settings.model_fields)


@pytest.mark.parametrize("name", [name for name, wrong in HERE.items() if not isinstance(wrong, str)])
def test_what_is_wrong_for_this_host_or_archive_is_refused(name: str) -> None:
    changes = HERE[name]
    assert not isinstance(changes, str)
    if name in ("device", "precision", "warmup_sizes") and gpus.look().count != 0:
        pytest.skip("needs a host that has no GPU")
    if name == "warmup_sizes" and SIDE > 65_535:
        pytest.skip("the memory has room for the largest image")
    with taken() as port:
        given = {key: port if value == "taken" else value for key, value in changes.items()}
        settings = Settings(**{"port": 0, **given})
        assert refusal(lambda: preflight.check(settings)).startswith(f"UPSNET_{name.upper()}")


def test_the_defaults_pass_at_once() -> None:
    seconds = []
    for _ in range(3):  # a busy host may be slow once
        start = time.monotonic()
        preflight.check(Settings(port=0))
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 1


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("nosuch.invalid", "no such host"),
        ("300.1.1.1", "no such host"),
        ("192.0.2.1", "cannot listen there"),
        ("2001:db8::1", "cannot listen there"),
        ("[::1]", "no such host"),
        ("localhost:8000", "no such host"),
        ("http://localhost", "no such host"),
        ("a..b", "no such host"),
        ("two words", "no such host"),
        ("x" * 300, "no such host"),
        ("\udcff", "no such host"),
    ],
)
def test_a_host_that_is_not_this_one_is_told_as_such(host: str, part: str) -> None:
    if ":" in host and host[0] == "2" and not socket.has_ipv6:
        pytest.skip("needs IPv6")
    message = refusal(lambda: preflight.check_address(host, 8000))
    assert message.startswith("UPSNET_HOST=")
    assert part in message
    assert "UPSNET_PORT" not in message


def test_a_name_that_nobody_answers_for_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait(20) and [])
    assert "no answer in 1.5 s" in refusal(lambda: preflight.check_address("slow.example", 8000))
    end.set()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_in_use_is_told_as_such(host: str) -> None:
    with taken() as port:
        message = refusal(lambda: preflight.check_address(host, port))
    assert message == f"UPSNET_PORT={port}: the port is in use on {host}. Set UPSNET_PORT to a free port."


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to become nobody")
def test_a_port_of_the_system_is_told_as_such() -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 79:
        pytest.skip("every user may listen on every port here")
    os.seteuid(65534)
    try:
        message = refusal(lambda: preflight.check_address("127.0.0.1", 79))
    finally:
        os.seteuid(0)
    assert message.startswith("UPSNET_PORT=79: this user may not listen on it")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "127.0.0.2"])
def test_a_free_port_of_this_host_stays_free(host: str) -> None:
    for _ in range(2):
        preflight.check_address(host, 0)
    with taken() as port:
        pass
    preflight.check_address(host, port)


def test_why_it_did_not_listen_is_asked_again() -> None:
    with taken() as port:
        assert "in use" in preflight.why_not_listening(Settings(port=port))
    assert preflight.why_not_listening(Settings(port=0)) == "cannot listen on 127.0.0.1:0; the log says why."


@pytest.mark.parametrize(
    ("device", "precision", "found", "told"),
    [
        ("cuda", "auto", Gpus(0, "none"), "UPSNET_DEVICE='cuda': there is no cuda: none."),
        ("cuda:0,cuda:7", "auto", Gpus(2, "2 GPUs"), "UPSNET_DEVICE='cuda:0,cuda:7': there is no cuda:7: 2 GPUs."),
        ("auto", "float16", Gpus(0, "none"), "UPSNET_PRECISION='float16' needs a GPU, and none."),
        ("auto", "float16", Gpus(1, "1 GPU"), None),
        ("cuda:0,cuda:1", "float32", Gpus(2, "2 GPUs"), None),
        ("cuda", "float16", Gpus(1, "1 GPU"), None),
        ("cuda:7", "float16", gpus.UNKNOWN, None),
        ("auto", "float16", gpus.UNKNOWN, None),
    ],
)
def test_devices_are_compared_with_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str, found: Gpus, told: str | None
) -> None:
    monkeypatch.setattr(gpus, "look", lambda: found)
    settings = Settings(device=device, precision=precision)  # type: ignore[arg-type]
    if told is None:
        preflight.check_devices(settings)
    else:
        assert refusal(lambda: preflight.check_devices(settings)).startswith(told)


@pytest.mark.parametrize(
    ("device", "found", "refused"),
    [
        ("cpu", gpus.UNKNOWN, True),
        ("auto", Gpus(0, "none"), True),
        ("auto", Gpus(1, "1 GPU"), False),
        ("auto", gpus.UNKNOWN, False),
        ("cuda", Gpus(1, "1 GPU"), False),
    ],
)
def test_a_size_to_warm_up_with_fits_into_the_memory_where_it_runs(
    monkeypatch: pytest.MonkeyPatch, device: str, found: Gpus, refused: bool
) -> None:
    monkeypatch.setattr(gpus, "look", lambda: found)
    monkeypatch.setattr(host, "memory", lambda: 1_000_000_000)
    settings = Settings(device=device, warmup_sizes=((480, 640), (7_000, 6_000)))
    if refused:
        told = "UPSNET_WARMUP_SIZES: 6000x7000: such an image takes 1.0 GB, and the memory is 1.0 GB."
        assert refusal(lambda: preflight.check_memory(settings)).startswith(told)
    else:
        preflight.check_memory(settings)


def test_every_worker_on_the_cpu_needs_room_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "memory", lambda: 1_000_000_000)
    size = ((5_000, 5_000),)  # 600 MB in a worker
    preflight.check_memory(Settings(device="cpu", warmup_sizes=size))
    told = "UPSNET_WARMUP_SIZES: 5000x5000 in 2 workers: such an image takes 1.2 GB, and the memory is 1.0 GB."
    assert refusal(lambda: preflight.check_memory(Settings(device="cpu,cpu", warmup_sizes=size))).startswith(told)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_no_driver_is_asked_where_none_is_needed(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(gpus, "look", lambda: pytest.fail("asked"))
    preflight.check_devices(Settings(device=device))
    preflight.check_memory(Settings(device=device))


@pytest.mark.parametrize(
    ("size", "part"),
    [((480, 70_000), "70000x480 has a side over 65535"), ((65_535, 1000), "UPSNET_MAX_PIXELS is 40000000")],
)
def test_a_size_to_warm_up_with_is_one_that_is_taken(size: tuple[int, int], part: str) -> None:
    message = refusal(lambda: preflight.check_archive(Settings(model=DEMO, warmup_sizes=((480, 640), size))))
    assert message.startswith("UPSNET_WARMUP_SIZES: ")
    assert part in message
    preflight.check_archive(Settings(model=DEMO, warmup_sizes=((65_535, 600),)))


def test_a_long_path_is_cut() -> None:
    path = Path("/".join(["folder"] * 100))
    message = refusal(lambda: preflight.check_archive(Settings(model=path)))
    assert message.startswith("UPSNET_MODEL: folder/folder/")
    assert "/folder does not exist. Export an archive" in message

"""The demo archive on a Ray cluster of two nodes: the answers of the plain service, replicas that follow the queue."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.paths import DEMO, EXAMPLES, ROOT
from tests.resilience.client import Connection, Reply, closed_loop, free_port, request, tree

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray's own

PHOTOS = sorted(EXAMPLES.glob("*_small.jpg"))
PHOTO = request(PHOTOS[0].read_bytes(), Accept="image/png")
LIMITS = {"model": DEMO, "device": "cpu", "warmup_sizes": (), "max_queue": 12, "body_timeout_ms": 1000}


@pytest.fixture(scope="module")
def port(ray_address: str) -> Iterator[int]:
    """The service as its command starts it."""
    from ray import serve

    port = free_port()
    limits = {f"UPSNET_{name.upper()}": str(value) for name, value in LIMITS.items() if value != ()}
    environment = {**os.environ, **limits, "UPSNET_PORT": str(port), "UPSNET_WARMUP_SIZES": ""}
    command = [sys.executable, "-m", "service.ray_serve"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{ray_address}: {done.stderr}"
    assert done.stdout == f"upsnet answers on port {port} of each host with a replica\n"
    yield port
    serve.shutdown()


async def send(port: int, prepared: bytes) -> Reply:
    connection = Connection(port)
    reply = await connection.send(prepared)
    await connection.close()
    return reply


def ask(port: int, prepared: bytes) -> Reply:
    return asyncio.run(send(port, prepared))


def facts(reply: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(reply).items() if name != "request_id"}


def states() -> dict[str, int]:
    """How many replicas are in which state."""
    from ray import serve

    found = dict(serve.status().applications["upsnet"].deployments["upsnet"].replica_states)
    return {str(getattr(state, "value", state)): count for state, count in found.items() if count}


def replicas() -> int:
    return states().get("RUNNING", 0)


async def until(holds: Callable[[], bool], seconds: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < began + seconds
        await asyncio.sleep(0.5)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("device", "in_cluster", "gpus"),
    [("auto", 0, 0), ("auto", 4, 1), ("cpu", 4, 0), ("cpu,cpu", 4, 0), ("cuda", 4, 1), ("cuda:0,cuda:1", 4, 2)],
)
def test_a_replica_has_the_gpus_that_its_device_names(device: str, in_cluster: int, gpus: int) -> None:
    from service.ray_serve import replica

    assert replica.gpus_per_replica(device, in_cluster) == gpus


def test_a_replica_should_have_two_batches_for_each_device() -> None:
    from service.ray_serve import replica

    assert replica.target_per_replica(Settings(**LIMITS), gpus=0) == 2
    assert replica.target_per_replica(Settings(**LIMITS), gpus=2) == 32
    assert replica.target_per_replica(Settings(**LIMITS, max_batch_size=4), gpus=1) == 8


def test_it_answers_as_the_plain_service_does(port: int) -> None:
    with TestClient(create_app(Settings(**LIMITS))) as plain:
        while plain.get("/health/ready").status_code != 200:
            time.sleep(0.1)
        for photo in PHOTOS:
            expected = plain.post("/panoptic", content=photo.read_bytes())
            assert len(expected.json()["segments_info"]) > 3
            assert facts(ask(port, request(photo.read_bytes())).body) == facts(expected.content)


def test_refusals_and_headers_pass_through_rays_proxy(port: int) -> None:
    good = PHOTOS[0].read_bytes()
    named = ask(port, request(good, X_Request_ID="mine", Accept="image/png"))
    assert (named.status, named.headers["x-request-id"]) == (200, "mine")
    assert {"server-timing", "vary"} <= set(named.headers)
    assert ask(port, request(b"", "/health", "GET")).status == 200
    assert ask(port, request(b"", "/nowhere", "GET")).status == 404
    refused = {
        "unsupported_image": request(b"no photo"),
        "not_acceptable": request(good, Accept="text/html"),
        "deadline_exceeded": request(good, X_Deadline_Ms="1"),
        "body_too_large": request(bytes(20_000_001)),
        "body_timeout": request(good)[:-1],  # its last byte never comes
    }
    for code, prepared in refused.items():
        reply = ask(port, prepared)
        assert reply.headers["content-type"] == "application/problem+json"
        assert json.loads(reply.body)["code"] == code


def test_an_answer_names_its_request_once(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=10) as answer:
        assert len(answer.headers.get_all("X-Request-ID")) == 1


def test_float16_needs_gpus_in_the_cluster(ray_address: str) -> None:
    from service.ray_serve import replica

    with pytest.raises(replica.DeployError, match=r"UPSNET_PRECISION='float16' needs GPUs"):
        replica.start(Settings(**{**LIMITS, "device": "auto", "precision": "float16"}), 1)
    assert ray_address


def test_replicas_follow_the_queue_and_no_request_fails(port: int) -> None:
    """Also while all are replaced, which is what a second deployment does."""
    from service.ray_serve import replica

    quick = {"upscale_delay_s": 1.0, "downscale_delay_s": 5.0, "look_back_period_s": 2.0}

    async def scenario() -> None:
        redeploying = asyncio.to_thread(replica.start, Settings(**LIMITS, port=port), 2, **quick)
        during, _ = await asyncio.gather(closed_loop(port, PHOTO, 2, 30), redeploying)
        assert replicas() == 1
        loading = asyncio.ensure_future(closed_loop(port, PHOTO, 8, 45))
        up = await until(lambda: replicas() == 2, 60)
        loaded = await loading
        calm = asyncio.ensure_future(closed_loop(port, PHOTO, 1, 40))
        down = await until(lambda: replicas() == 1, 60)
        replies = during + loaded + await calm
        counts = Counter(reply.status for reply in replies)
        slowest = max(reply.seconds for reply in replies)
        print(f"\ntwo replicas after {up:.0f} s, one again after {down:.0f} s: {dict(counts)}, slowest {slowest:.1f} s")
        assert set(counts) == {200}

    asyncio.run(scenario())


def test_a_full_queue_says_when_to_come_again(port: int) -> None:
    async def burst() -> list[Reply]:
        return await asyncio.gather(*(send(port, PHOTO) for _ in range(40)))

    asyncio.run(until(lambda: states() == {"RUNNING": 1}, 60))
    replies = asyncio.run(burst())
    counts = Counter(reply.status for reply in replies)
    print(f"\n40 at once, of which 12 may wait: {dict(counts)}")
    assert set(counts) == {200, 429}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status == 429)


def test_a_scrape_of_ray_has_the_metrics_of_the_replica(port: int) -> None:
    import ray

    asked = int(ask(port, PHOTO).status == 200)
    found, end = "", time.monotonic() + 60
    while "ray_upsnet_images_total{" not in found or "ray_upsnet_ready" not in found:
        assert time.monotonic() < end
        time.sleep(1)
        for node in ray.nodes():
            address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            found += urllib.request.urlopen(address, timeout=10).read().decode()
    done = [
        line for line in found.splitlines() if line.startswith("ray_upsnet_images_total") and 'outcome="ok"' in line
    ]
    assert max(float(line.rsplit(" ", 1)[1]) for line in done) >= asked


def test_a_replica_that_is_killed_is_replaced_and_leaves_no_worker(port: int) -> None:
    replica = next(pid for pid in tree(os.getpid()) if "ray::ServeReplica" in command_line(pid))
    below = tree(replica)
    assert any("spawn_main" in command_line(pid) for pid in below)

    async def scenario() -> None:
        loading = asyncio.ensure_future(closed_loop(port, PHOTO, 2, 40))
        await asyncio.sleep(10)
        os.kill(replica, signal.SIGKILL)
        counts = Counter(reply.status for reply in await loading)
        print(f"\nkill -9 of the one replica under load of 2 clients, 40 s: {dict(counts)}")
        assert sum(count for status, count in counts.items() if status != 200) <= 2  # what it was at work on

    asyncio.run(scenario())
    assert not [pid for pid in below if "spawn_main" in command_line(pid)]
    assert ask(port, PHOTO).status == 200


def command_line(pid: int) -> str:
    """Of a process; nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""

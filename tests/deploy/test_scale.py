"""The scale variant with monitoring in containers: replicas are found by name, replaced under load and scraped."""

import asyncio
import json
import re
import resource
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.interface.host import cores
from tests.deploy.engine import PORT, PROJECT, Docker, front_images
from tests.deploy.host import REPOSITORY, run
from tests.resilience.client import Connection, Reply, percentile, request

pytestmark = pytest.mark.deploy

FILES: list[str | Path] = ["docker-compose.scale.yml", "docker-compose.monitoring.yml"]
DESCRIPTORS = re.findall(r"nofile: (\d+)", (REPOSITORY / "docker-compose.scale.yml").read_text())[0]
PHOTO = request((REPOSITORY / "service/static/examples/china_small.jpg").read_bytes(), Accept="image/png")
CLIENTS = 3


@pytest.fixture(scope="module")
def scaled(docker: Docker, image: str, workplace: Path) -> Iterator[Docker]:
    """Two CPU replicas behind nginx, and Prometheus; Grafana has no Debian package."""
    assert image == "upsnet-service:cpu"
    front_images(docker, workplace)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < int(DESCRIPTORS):  # no engine here can give the front as many descriptors as its file asks for
        lower = workplace / "descriptors.yml"
        lower.write_text(f"services:\n  front: {{ulimits: {{nofile: {most}}}}}\n")
        FILES.append(lower)
    docker = Docker(workplace)
    docker.environment["OMP_NUM_THREADS"] = str(max(1, cores() // 2))
    try:
        docker.compose(FILES, "up", "-d", "--no-build", "--scale", "upsnet=2", "upsnet", "front", "prometheus")
        yield docker
    finally:
        docker.compose(FILES, "down", "--volumes", "--timeout", "5")


async def answered(seconds: float) -> None:
    """Return when the front answers."""
    end = time.monotonic() + seconds
    while True:
        connection = Connection(int(PORT))
        try:
            if (await connection.send(PHOTO)).status == 200:
                return
        except (OSError, asyncio.IncompleteReadError):
            assert time.monotonic() < end
        finally:
            await connection.close()
        await asyncio.sleep(1)


async def load(stop: asyncio.Event) -> list[Reply]:
    replies: list[Reply] = []

    async def client() -> None:
        connection = Connection(int(PORT))
        while not stop.is_set():
            replies.append(await connection.send(PHOTO))
        await connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return replies


def test_replicas_are_replaced_under_load_without_a_failed_request(scaled: Docker) -> None:
    files = " ".join(f"-f {file}" for file in FILES)
    environment = {**scaled.environment, "COMPOSE": f"{scaled.composer} -p {PROJECT} {files}"}

    async def scenario() -> None:
        await answered(240)
        before = scaled.compose(FILES, "ps", "-q", "upsnet").split()
        stop = asyncio.Event()
        loading = asyncio.ensure_future(load(stop))
        began = time.monotonic()
        await asyncio.to_thread(run, [REPOSITORY / "docker/rolling_restart.sh"], env=environment)
        seconds = time.monotonic() - began
        stop.set()
        replies = await loading
        counts = Counter(reply.status for reply in replies)
        times = sorted(reply.seconds for reply in replies)
        print(
            f"\nR4 in containers: 2 replicas replaced in {seconds:.0f} s, {dict(counts)}, "
            f"p50 {percentile(times, 0.5):.1f} s, slowest {[round(each, 1) for each in times[-6:]]} s"
        )
        assert not set(before) & set(scaled.compose(FILES, "ps", "-q", "upsnet").split())
        assert len(replies) > 20
        assert set(counts) == {200}, scaled.compose(FILES, "logs", "--tail", "40", "front")

    asyncio.run(scenario())


@pytest.mark.usefixtures("scaled")
def test_prometheus_finds_both_by_name_and_has_scraped_them() -> None:
    asyncio.run(answered(60))
    expected = {
        'count(up{job="upsnet"} == 1)': 2,
        "sum(upsnet_ready)": 2,
        'min(upsnet_images_total{outcome="ok"}) > 0': 1,
    }
    end = time.monotonic() + 90
    while True:
        found = {expression: ask(expression) or 0 for expression in expected}
        if all(found[expression] >= least for expression, least in expected.items()):
            break
        assert time.monotonic() < end, found
        time.sleep(1)
    print("\n" + "\n".join(f"{expression}: {value:g}" for expression, value in found.items()))


def ask(expression: str) -> float | None:
    """The first value that the published Prometheus has for it."""
    address = f"http://127.0.0.1:9090/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else None

"""The service under load, against the bare loop of its predictor."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model import archive, export
from model.benchmark.random_weights import random_network
from model.checkpoint import Checkpoint
from model.interface import categories
from model.predictor import Predictor
from tests.gpu.measure import Bench
from tests.gpu.rows import Row
from tests.paths import DEMO, EXAMPLES, ROOT

START_SECONDS = 90
METRICS = re.compile(r"^upsnet_batch_images_(sum|count)(?:\{.*\})? (\S+)$", re.MULTILINE)


def demo(bench: Bench) -> Iterator[Row]:
    """The demo archive."""
    if not bench.dry:
        yield from loaded(bench, "camvid_demo", DEMO)


def random_weights(bench: Bench) -> Iterator[Row]:
    """A network with random weights: UPSNet-50 on COCO, or a small one on a CPU."""
    name, labels = bench.configuration, categories.load(bench.configuration.split("_")[0])
    scale = {"short_side": min(bench.size), "long_side": max(bench.size)}
    network = random_network(name, **scale, instances=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "random.pt")
        checkpoint = Checkpoint(name, labels, network.state_dict(), test_scale=scale)
        archive.save(*export.export(checkpoint, "", "random", False), path)
        yield from loaded(bench, name, path)


def loaded(bench: Bench, name: str, path: Path) -> Iterator[Row]:
    """Rates of the bare loop, and of the service at each number of clients."""
    clients, seconds = ((2,), 0.5) if bench.dry else ((1, 64, 128), 6.0)
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "street.jpg")
        Image.open(EXAMPLES / "china.jpg").convert("RGB").resize((640, 480)).save(photo, quality=90)
        bare = bare_rate(bench, path, photo, 0.5 if bench.dry else 3.0)
        yield Row(f"bare loop, {name}", bare, "images/s", "batches of as many as the service takes, photos on the host")
        with service(bench, path, Path(folder, "log")) as url:
            for count in clients:
                load = benchmark(url, photo, count, seconds)
                latency = "; ".join(f"{share} {value:.1f} ms" for share, value in load["latency_ms"].items())
                rate = load["requests_per_second"]
                wrong = set(load["statuses"]) - {"200"}
                note = f"{latency}; {load['statuses']}"
                yield Row(f"service at {count} clients, {name}", rate, "images/s", note, failed=bool(wrong))
                if count > 1:
                    yield Row(f"service at {count} clients / bare loop, {name}", 100 * rate / bare, "%")
            totals = dict(METRICS.findall(read(f"{url}/metrics")))
            yield Row(f"images in a batch, {name}", float(totals["sum"]) / max(float(totals["count"]), 1), "", "mean")


def bare_rate(bench: Bench, path: Path, photo: Path, seconds: float) -> float:
    """Images a second of a predictor that is given batches one after the other."""
    predictor = Predictor(path, bench.device)
    batch = [np.asarray(Image.open(photo))] * (1 if bench.dry else 8)
    for _ in range(1 if bench.dry else 5):
        predictor.predict(batch)
    start, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < seconds:
        predictor.predict(batch)
        count += len(batch)
    del predictor
    if not bench.dry:
        torch.cuda.empty_cache()
    return count / taken


@contextlib.contextmanager
def service(bench: Bench, path: Path, log: Path) -> Iterator[str]:
    """The address of a service that serves an archive; it is ended afterwards.

    Raises:
        RuntimeError: it did not become ready; with the end of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"MODEL": path, "PORT": port, "DEVICE": bench.device, "MAX_QUEUE": 256, "WARMUP_SIZES": "640x480"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("UPSNET_")}
    environment = {**inherited, **{f"UPSNET_{name}": str(value) for name, value in settings.items()}}
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=output, stdout=output
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not ready(url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The service is not ready: {log.read_text(errors='replace')[-600:]}")
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def ready(url: str) -> bool:
    """Whether a service says so."""
    try:
        return bool(json.loads(read(f"{url}/health/ready"))["ready"])
    except (OSError, urllib.error.URLError):
        return False


def read(url: str) -> str:
    """The body at an address of this host, whatever proxies are set."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        return answer.read().decode()


def benchmark(url: str, photo: Path, clients: int, seconds: float) -> dict[str, object]:
    """What so many clients saw, as `service.benchmark` writes it."""
    figures = photo.with_name("load.json")
    options = ["--image", str(photo), "--concurrency", str(clients), "--duration", str(seconds), "--json", str(figures)]
    command = [sys.executable, "-m", "service.benchmark", url, *options, "--accept", "image/png"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if not figures.exists():
        raise RuntimeError(run.stderr[-300:])
    load = json.loads(figures.read_text())["loads"][0]
    figures.unlink()
    return load


PARTS = (demo, random_weights)

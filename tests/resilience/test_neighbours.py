"""What becomes of the network's speed while other programs keep every core busy: a fair share is half of it."""

import contextlib
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model.interface.host import cores
from tests.model.training.street import write_street
from tests.paths import DEMO, EXAMPLES, ROOT
from tests.started import started

pytestmark = [pytest.mark.resilience, pytest.mark.skipif(not DEMO.is_file(), reason="the demo archive is not there")]
ROUNDS = 3
MOST = 3.0
BUSY = "import time\nend = time.monotonic() + 600\nwhile time.monotonic() < end: pass"


@contextlib.contextmanager
def neighbours() -> Iterator[None]:
    """As many busy programs as there are cores."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores())]
    try:
        time.sleep(0.5)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def compare(what: str, seconds: Callable[[], float]) -> float:
    """The time of a run beside busy programs over its time alone: medians of rounds in turn."""
    quiet, busy = [], []
    seconds()  # files are read, kernels compiled
    for _ in range(ROUNDS):
        quiet.append(seconds())
        with neighbours():
            busy.append(seconds())
    ratio = statistics.median(busy) / statistics.median(quiet)
    print(f"{what}: alone {statistics.median(quiet):.2f} s, beside {cores()} busy programs {ratio:.2f} times as long")
    return ratio


def environment() -> dict[str, str]:
    """This process's, without what says how threads wait, and how many there are."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}


def command(*words: str) -> float:
    """Seconds of a command."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment(), check=True, capture_output=True)
    return time.monotonic() - start


def test_the_service_keeps_its_share() -> None:
    body = (EXAMPLES / "china.jpg").read_bytes()
    with started(environment={**environment(), "UPSNET_MODEL": str(DEMO)}) as address:

        def ten_answers() -> float:
            start = time.monotonic()
            for _ in range(10):
                with urllib.request.urlopen(f"http://{address}/panoptic", body, timeout=60) as answer:
                    answer.read()
            return time.monotonic() - start

        assert compare("the service, 10 photos", ten_answers) <= MOST


def test_prediction_keeps_its_share(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        shutil.copy(EXAMPLES / "china.jpg", photos / f"{number}.jpg")
    out = (str(tmp_path / str(number)) for number in itertools.count())
    words = ["model.predict", str(DEMO), str(photos), "--device", "cpu", "--out"]
    assert compare("model.predict, 12 photos", lambda: command(*words, next(out))) <= MOST


def test_training_keeps_its_share(tmp_path: Path) -> None:
    options = ["--config", "camvid_demo", *write_street(tmp_path / "street"), "--steps", "1", "--device", "cpu"]
    out = (str(tmp_path / str(number)) for number in itertools.count())
    words = ["model.training", *options, "--out"]
    assert compare("model.training, 1 step", lambda: command(*words, next(out))) <= MOST

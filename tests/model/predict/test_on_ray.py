"""`model.predict --ray` on a cluster of two nodes: the files of a run without it, also after it was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.predict.photos import JOURNAL
from tests.paths import EXAMPLES, ROOT
from tests.resilience.client import tree

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_address"),
    pytest.mark.filterwarnings("ignore"),
]  # Ray's own

PHOTOS = sorted(EXAMPLES.glob("*_small.jpg"))
COUNT = 94
"""Photos, and two more: three shards for two workers."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two shapes, two that differ in their ending alone, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        (folder / f"{number:03}.jpg").write_bytes(PHOTOS[number % len(PHOTOS)].read_bytes())
    (folder / "000.jpeg").write_bytes(PHOTOS[1].read_bytes())
    (folder / "broken.jpg").write_bytes(PHOTOS[0].read_bytes()[:2000])
    return folder


def start(photos: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "model.predict",
        "weights/camvid_demo.pt",
        str(photos),
        "--out",
        str(out),
        "--overlay",
    ]
    return subprocess.Popen([*words, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(run: subprocess.Popen[str]) -> str:
    """What a run says that has to end with status 1, for the one bad photo."""
    said, warned = run.communicate(timeout=400)
    assert run.returncode == 1, warned
    assert f"{COUNT + 1} photos, 1 skipped" in said
    assert "broken.jpg: The image cannot be decoded" in warned
    return said


def files(out: Path) -> dict[str, bytes]:
    """All but the journal, whose order is that of the workers."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*") if path.name != JOURNAL}


@pytest.fixture(scope="module")
def plain(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("plain")
    finish(start(photos, out))
    return files(out)


def journal(out: Path) -> int:
    """Photos that are done."""
    return len((out / JOURNAL).read_text().splitlines()) if (out / JOURNAL).exists() else 0


def test_it_writes_the_files_of_a_run_without_it(photos: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    began = time.monotonic()
    finish(start(photos, tmp_path, "--ray"))
    print(f"\n{COUNT + 2} photos on two workers: {time.monotonic() - began:.0f} s")
    assert len(plain) == 2 * (COUNT + 1) + 1
    assert files(tmp_path) == plain


def test_a_killed_run_goes_on(photos: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    run = start(photos, tmp_path, "--ray")
    while not journal(tmp_path):
        assert run.poll() is None
        time.sleep(0.1)
    assert 0 < journal(tmp_path) < COUNT
    run.kill()
    run.communicate()
    done = journal(tmp_path)  # workers finish what they have at hand
    said = finish(start(photos, tmp_path, "--ray"))
    print(f"\nkilled after {done}: {said}")
    assert f"{done} of {COUNT + 2} photos are done already" in said
    assert files(tmp_path) == plain


def test_a_worker_that_is_killed_costs_nothing(photos: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    run = start(photos, tmp_path, "--ray")
    while not journal(tmp_path):
        assert run.poll() is None
        time.sleep(0.1)
    workers = [pid for pid in tree(os.getpid()) if "MapWorker" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(workers[0], signal.SIGKILL)
    finish(run)
    assert files(tmp_path) == plain


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:9"])
def test_a_wrong_address_is_a_line(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    said, warned = start(photos, tmp_path, "--ray").communicate(timeout=200)
    assert said == ""
    assert "\nerror: Ray: " in f"\n{warned}"
    assert "Traceback" not in warned

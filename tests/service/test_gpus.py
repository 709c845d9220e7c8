"""GPUs are counted by the driver, not by torch. The driver here is a library of a few lines where there is no GPU."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service import gpus
from service.gpus import Gpus

Driver = Callable[[int, int], None]

DRIVER = """
int cuInit(unsigned flags) { return %d; }
int cuDeviceGetCount(int *count) { *count = %d; return 0; }
"""
VERSION = "from typing import Optional\n__version__ = '2.15.0'\ncuda: Optional[str] = {}\nhip: Optional[str] = {}\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Makes a driver that ends `cuInit` with a status and shows so many GPUs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or sys.platform != "linux":
        pytest.skip("needs a C compiler")

    def make(status: int, count: int) -> None:
        (tmp_path / "driver.c").write_text(DRIVER % (status, count))
        library = str(tmp_path / "libcuda.so.1")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    torch_is(tmp_path, monkeypatch, cuda="'13.2'")
    return make


def torch_is(folder: Path, monkeypatch: pytest.MonkeyPatch, cuda: str = "None", hip: str = "None") -> None:
    """Puts a torch of this build before the installed one. Nothing imports it."""
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch/__init__.py").write_text("raise AssertionError('torch was imported')")
    (folder / "torch/version.py").write_text(VERSION.format(cuda, hip))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("status", "count", "found"),
    [
        (0, 2, Gpus(2, "2 GPUs can be seen here")),
        (0, 1, Gpus(1, "1 GPU can be seen here")),
        (0, 0, Gpus(0, "no GPUs can be seen here")),
        (100, 0, Gpus(0, "no GPUs can be seen here")),
        (803, 0, Gpus(0, "the CUDA driver fails with error 803")),
    ],
)
def test_the_driver_is_asked(driver: Driver, status: int, count: int, found: Gpus) -> None:
    driver(status, count)
    assert gpus.look() == found


def test_a_driver_that_crashes_or_hangs_tells_nothing(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(0, 1)
    for code in ("import os; os.abort()", "print('?')", "import time; time.sleep(9)"):
        monkeypatch.setattr(gpus, "_PROBE", code)
        monkeypatch.setattr(gpus, "PROBE_SECONDS", 0.3)
        assert gpus.look() == gpus.UNKNOWN


def test_a_torch_without_cuda_sees_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_is(tmp_path, monkeypatch)
    assert gpus.look() == Gpus(0, "the installed torch is built without CUDA")


def test_nothing_is_known_of_other_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_is(tmp_path, monkeypatch, hip="'6.4'")
    assert gpus.look() == gpus.UNKNOWN
    (tmp_path / "torch/version.py").unlink()
    assert gpus.look() == gpus.UNKNOWN


def test_this_host_is_seen_as_torch_sees_it() -> None:
    import torch

    found = gpus.look()
    assert found.count in (None, torch.cuda.device_count())
    assert found.reason

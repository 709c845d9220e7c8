"""The name of the deformable convolution that a device takes, for operators to see a fallback."""

import importlib.util
import shutil
from collections.abc import Iterator

import pytest

from model import ops


@pytest.fixture(autouse=True)
def found_anew() -> Iterator[None]:
    ops.has_triton.cache_clear()
    yield
    ops.has_triton.cache_clear()


def host(monkeypatch: pytest.MonkeyPatch, named: str | None, found: str | None) -> None:
    """One with Triton, a compiler named in CC or none, and one command that is found or none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}" if command == found else None)
    monkeypatch.delenv("CC", raising=False)
    if named:
        monkeypatch.setenv("CC", named)


def test_a_cpu_gathers() -> None:
    assert ops.kernel("cpu") == "gather"


@pytest.mark.parametrize(("named", "found"), [("/opt/cc", None), (None, "gcc"), (None, "clang")])
def test_a_gpu_takes_triton_where_it_is_installed_with_a_compiler(
    monkeypatch: pytest.MonkeyPatch, named: str | None, found: str | None
) -> None:
    host(monkeypatch, named, found)
    assert ops.kernel("cuda:1") == "triton"


def test_a_gpu_without_triton_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.warns(RuntimeWarning, match=r"Triton is not installed: .* slower forms"):
        assert ops.kernel("cuda") == "torchvision"


def test_a_gpu_without_a_compiler_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton compiles C at its first launch, whatever it finds of its own."""
    host(monkeypatch, None, None)
    with pytest.warns(RuntimeWarning, match=r"no C compiler .* slower forms"):
        assert ops.kernel("cuda") == "torchvision"

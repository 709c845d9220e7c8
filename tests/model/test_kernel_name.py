"""The name of the deformable convolution that a device takes, for operators to see a fallback."""

import importlib.util
from collections.abc import Iterator

import pytest

from model import ops


@pytest.fixture(autouse=True)
def found_anew() -> Iterator[None]:
    ops.has_triton.cache_clear()
    yield
    ops.has_triton.cache_clear()


def test_a_cpu_gathers() -> None:
    assert ops.kernel("cpu") == "gather"


def test_a_gpu_takes_triton_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert ops.kernel("cuda:1") == "triton"


def test_a_gpu_without_triton_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.warns(RuntimeWarning, match="slower forms"):
        assert ops.kernel("cuda") == "torchvision"

"""Which form of an operator a GPU takes; what lies on a CPU stands for what lies on a GPU."""

import importlib.util
import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model import ops
from model.kernels import choice
from model.kernels.choice import GpuForm


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton is not looked for yet, every kernel is in use."""
    monkeypatch.setattr(choice, "_replaced", {})
    monkeypatch.setattr(choice, "_switched_off", False)
    choice.has_triton.cache_clear()
    yield
    choice.has_triton.cache_clear()


def host(monkeypatch: pytest.MonkeyPatch, named: str | None, found: str | None) -> None:
    """One with Triton, a compiler named in CC or none, and one command that is found or none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}" if command == found else None)
    monkeypatch.delenv("CC", raising=False)
    if named:
        monkeypatch.setenv("CC", named)


def double(numbers: Tensor) -> Tensor:
    return numbers + numbers


def kernel(numbers: Tensor | list[Tensor]) -> Tensor:
    return (numbers[0] if isinstance(numbers, list) else numbers) * 2.5


@pytest.mark.parametrize(("named", "found"), [("/opt/cc", None), (None, "gcc"), (None, "clang")])
def test_kernels_are_used_where_triton_is_installed_with_a_compiler(
    monkeypatch: pytest.MonkeyPatch, named: str | None, found: str | None
) -> None:
    host(monkeypatch, named, found)
    assert choice.has_triton()
    assert choice.usable("nms")


def test_without_triton_no_kernel_that_needs_it_is_used_and_the_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.warns(RuntimeWarning, match=r"Triton is not installed: .* slower forms"):
        assert not choice.usable("nms")
    assert not choice.usable("nms")  # warns once
    assert choice.usable("convolution", needs_triton=False)
    assert GpuForm("nms", double, "regions.nms")(torch.ones(1)).tolist() == [2]
    assert GpuForm("convolution", double, kernel)(torch.ones(1)).tolist() == [2.5]


def test_without_a_compiler_kernels_are_not_used_and_the_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton compiles C at its first launch, whatever it finds of its own."""
    host(monkeypatch, None, None)
    with pytest.warns(RuntimeWarning, match=r"no C compiler .* slower forms"):
        assert not choice.has_triton()


def test_a_replaced_kernel_gives_way_to_its_plain_form_and_others_stay() -> None:
    first, second = GpuForm("first", double, kernel), GpuForm("second", double, kernel)
    assert first(torch.ones(1)).tolist() == [2.5]
    choice.replace("first", "it was wrong")
    assert choice.replaced() == {"first": "it was wrong"}
    assert first(torch.ones(1)).tolist() == [2]
    assert first.run_kernel([torch.ones(1)]).tolist() == [2.5]  # asked for by name
    assert second([torch.ones(1)]).tolist() == [2.5]


def test_switched_off_no_kernel_is_used_and_triton_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    choice.switch_off()  # no warning of a missing Triton, which would fail this test
    assert choice.switched_off()
    assert not choice.usable("nms")
    assert GpuForm("convolution", double, kernel)(torch.ones(1)).tolist() == [2]


def test_gradients_take_the_plain_form_where_there_is_a_backward() -> None:
    numbers = torch.ones(1, requires_grad=True)
    assert GpuForm("double", double, kernel, backward=True)(numbers).tolist() == [2]
    assert GpuForm("double", double, kernel)(numbers).tolist() == [2.5]
    with torch.no_grad():
        assert GpuForm("double", double, kernel, backward=True)(numbers).tolist() == [2.5]


def test_each_operators_kernel_is_where_its_name_says() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    assert {"deformable_convolution", "nms", "panoptic", "roi_align"} <= set(ops.ON_GPU)
    for name, form in ops.ON_GPU.items():
        assert form.name == name
        assert form.kernel.__module__.startswith("model.")

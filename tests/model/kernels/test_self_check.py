"""Kernels made wrong on purpose are replaced, right ones stay. What lies on a CPU stands for what lies on a GPU."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model import ops
from model.kernels import choice, self_check
from model.kernels.choice import GpuForm
from model.kernels.self_check import CHECKS, check, difference

POOL = ops.ON_GPU["roi_align"].plain


pytestmark = pytest.mark.usefixtures("kernels_in_use")


def pooling(kernel: Callable[..., Any], plain: Callable[..., Any] = POOL) -> dict[str, GpuForm]:
    """RoIAlign with this kernel."""
    return {"roi_align": GpuForm("roi_align", plain, kernel)}


def case(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    return next(CHECKS[name](torch.Generator().manual_seed(0), dtype))


def slightly_off(*arguments: Any) -> Tensor:
    return POOL(*arguments) * 1.01


def one_wrong(*arguments: Any) -> Tensor:
    result = POOL(*arguments)
    result[0, 0, 0, 0] += 100
    return result


def unwritten(*arguments: Any) -> Tensor:
    """Regions but the last."""
    wanted = POOL(*arguments)
    result = wanted.new_empty(wanted.shape)
    result[:-1] = wanted[:-1]
    return result


def of_another_type(*arguments: Any) -> Tensor:
    return POOL(*arguments).double()


def raising(*_: Any) -> Tensor:
    raise RuntimeError("the compiler gave up\nat line 5")


def too_large(*_: Any) -> Tensor:
    raise RuntimeError("out of resource: shared memory, Required: 300000, Hardware limit: 232448")


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (slightly_off, r"its numbers differ by 0\.01 of their norm, 0\.00012 is allowed"),
        (one_wrong, r"its numbers differ by 0\.\d+ of their norm"),
        (unwritten, r"its numbers differ by nan of their norm"),
        (of_another_type, r"it returned \(7, 256, 7, 7\) torch\.float64, not \(7, 256, 7, 7\) torch\.float32"),
        (raising, r"it raised RuntimeError: the compiler gave up"),
        (too_large, r"it raised RuntimeError: out of resource: shared memory"),
    ],
)
def test_a_wrong_kernel_is_replaced_and_answers_are_the_plain_forms(kernel: Callable[..., Any], reason: str) -> None:
    forms = pooling(kernel)
    assert forms["roi_align"].usable
    check(forms, "cpu", torch.float32)
    assert list(choice.replaced()) == ["roi_align"]
    assert re.match(reason, choice.replaced()["roi_align"])
    given = case("roi_align")
    assert torch.equal(forms["roi_align"](*given), POOL(*given))


@pytest.mark.parametrize("name", ["nms", "panoptic", "segments"])
def test_a_kernel_that_decides_otherwise_is_replaced(name: str) -> None:
    plain = ops.ON_GPU[name].plain

    def wrong(*arguments: Any) -> Any:
        found = plain(*arguments)
        first = found[0] if isinstance(found, tuple) else found
        last = first.view(-1)[-first.numel() // 100 :]
        last[:] = last == 0
        return found

    forms = {name: GpuForm(name, plain, wrong)}
    check(forms, "cpu", torch.float32)
    assert choice.replaced()[name].endswith("of its numbers differ, 0.2% is allowed")


@pytest.mark.parametrize("kinds", [range(5), range(5, 8)])
def test_scores_of_segments_are_told_from_others(kinds: range) -> None:
    """Those of stuff, or of things."""
    plain = ops.ON_GPU["segments"].plain

    def wrong(*arguments: Any) -> Tensor:
        found: Tensor = plain(*arguments)
        tables = found[: 2 * 256 * 7 * 8].view(torch.float64).view(2, 256, 7)[:, 1:]
        tables[..., 1] *= 1 + 0.01 * torch.isin(tables[..., 0], torch.tensor(kinds))
        return found

    check({"segments": GpuForm("segments", plain, wrong)}, "cpu", torch.float32)
    assert re.match(r"its numbers differ by 0\.0\d+ of their norm", choice.replaced()["segments"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_kernels_are_right(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device, or in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        monkeypatch.setattr(self_check, "BOXES", 70)  # the interpreter takes seconds for more
        monkeypatch.setattr(self_check, "WIDTHS", ((64, 128), (96, 96)))
    state, forms = torch.get_rng_state(), dict(ops.ON_GPU)
    if device == "cpu" and dtype == torch.float16:
        del forms["convolution"]  # cuDNN's
    if dtype == torch.float32:  # for the others the type of the weights makes no difference
        names = ("convolution", "deformable_convolution", "add_enlarged", "sum_levels", "roi_align", "transform")
        forms = {name: forms[name] for name in names}
    check(forms, device, dtype)
    assert choice.replaced() == {}
    assert torch.equal(torch.get_rng_state(), state)


def test_each_operator_has_a_check_of_odd_sizes_and_a_batch_whose_answer_is_not_trivial() -> None:
    assert set(CHECKS) == set(ops.ON_GPU)
    assert case("deformable_convolution", torch.float16)[0].shape == (2, 64, 3, 11)
    kept = ops.ON_GPU["nms"].plain(*case("nms"))
    assert 0.2 < float(kept.float().mean()) < 0.8
    channels, _, order = ops.ON_GPU["panoptic"].plain(*case("panoptic"))
    assert order[:3].tolist() == [0, 2, 1]  # the second candidate of the first image is dropped
    assert len(channels.unique()) >= 9
    assert channels.max() == 255
    numbers, scores, maps = self_check.READERS["segments"](ops.ON_GPU["segments"].plain(*case("segments")))
    assert numbers[:, 0, 0].tolist() == [8, 8]  # segments of each image
    assert maps.unique().tolist() == list(range(9))
    assert (scores[:, 1:9] > 0).all()
    first, second = ops.ON_GPU["transform"].plain(*case("transform"))
    assert (first == 0).all(0).float().mean() < 0.1 < first.std()
    assert (second == 0).all(0).float().mean() < 0.1 < second.std()


def lost(*_: Any) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_device_that_is_lost_is_no_fault_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the kernel raised: the next wait for the device raises too."""
    waits: list[int] = []

    def kernel(*_: Any) -> Tensor:
        monkeypatch.setattr(self_check, "wait", lost)
        raise RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")

    monkeypatch.setattr(self_check, "wait", lambda _: waits.append(1))
    with pytest.raises(RuntimeError, match="CUDA error: an illegal memory access"):
        check(pooling(kernel), "cpu", torch.float32)
    assert waits == [1]  # for the plain form
    assert choice.replaced() == {}


def test_a_device_that_is_lost_after_a_launch_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(*arguments: Any) -> Tensor:
        monkeypatch.setattr(self_check, "wait", lost)
        return POOL(*arguments)

    with pytest.raises(RuntimeError, match="CUDA error"):
        check(pooling(kernel), "cpu", torch.float32)
    assert choice.replaced() == {}


@pytest.mark.parametrize("error", [MemoryError("no"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_device_without_memory_says_nothing_of_a_kernel(error: Exception) -> None:
    def kernel(*_: Any) -> Tensor:
        raise error

    with pytest.raises(type(error)):
        check(pooling(kernel), "cpu", torch.float32)
    assert choice.replaced() == {}


def test_a_kernel_without_a_plain_form_to_compare_with_stays(caplog: pytest.LogCaptureFixture) -> None:
    check(pooling(slightly_off, plain=raising), "cpu", torch.float32)
    assert choice.replaced() == {}
    assert caplog.messages == ["The kernel of roi_align cannot be checked on cpu: RuntimeError: the compiler gave up"]


def test_one_warning_names_all_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    nms = ops.ON_GPU["nms"].plain
    forms = pooling(raising) | {"nms": GpuForm("nms", nms, lambda *_: torch.ones(2, 3))}
    check(forms, "cpu", torch.float32)
    check(forms, "cpu", torch.float32)  # what is replaced is not run again
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages[0] == (
        "Kernels that failed on cpu are replaced by slower forms: "
        "roi_align (it raised RuntimeError: the compiler gave up); "
        "nms (it returned (2, 3) torch.float32, not (2, 997) torch.bool)"
    )


def test_switched_off_kernels_are_not_run() -> None:
    choice.switch_off()
    check(pooling(raising), "cpu", torch.float32)
    assert choice.replaced() == {}


def test_without_triton_its_kernels_are_replaced_and_others_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_triton", lambda: False)
    monkeypatch.setattr(choice, "why_no_triton", lambda: "Triton is not installed")
    forms = {"nms": ops.ON_GPU["nms"]} | pooling(raising)
    check(forms, "cpu", torch.float32)
    assert choice.replaced() == {
        "nms": "Triton is not installed",
        "roi_align": "it raised RuntimeError: the compiler gave up",
    }


def test_results_are_compared_by_type_shape_and_number() -> None:
    ones, halves = torch.ones(1000), torch.ones(1000, dtype=torch.float16)
    assert difference(ones + 1e-4, ones) == difference(halves + 2**-10, halves) == ""
    assert "differ by 0.0003" in difference(ones + 3e-4, ones)
    assert "differ by 0.0029" in difference(halves + 3 * 2**-10, halves)
    whole = torch.arange(1000)
    assert difference(torch.where(whole < 2, -1, whole), whole) == ""
    assert difference(torch.where(whole < 3, -1, whole), whole) == "0.3% of its numbers differ, 0.2% is allowed"
    assert difference((ones, whole), (ones, whole)) == ""
    assert difference((ones, whole + 1), (ones, whole)).startswith("100.0%")
    assert difference((ones,), (ones, whole)) == "it returned 1 results, not 2"
    assert difference(ones[:5], ones) == "it returned (5,) torch.float32, not (1000,) torch.float32"


def test_new_memory_is_poisoned_while_a_kernel_runs() -> None:
    with self_check.Poisoned():
        assert bool(torch.empty(3).isnan().all())
        assert torch.empty_like(torch.zeros(2, dtype=torch.uint8)).tolist() == [113, 113]
        assert bool(torch.zeros(2).new_empty(4).isnan().all())
        assert torch.zeros(2).tolist() == [0, 0]

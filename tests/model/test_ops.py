"""Which form of an operator a device takes, and the operators as an archive calls them."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model import ops
from model.archive import quiet
from model.kernels import choice, cpu, panoptic_cpu, segments_cpu
from model.kernels.convolution_cpu import winograd
from tests.model.network.examples import (
    deform_conv2d_by_samples,
    panoptic_case,
    random_offsets,
    random_pyramid,
    segments_case,
)


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton is installed, every kernel is in use."""
    monkeypatch.setattr(choice, "has_triton", lambda: True)
    monkeypatch.setattr(choice, "_replaced", {})
    monkeypatch.setattr(choice, "_switched_off", False)


def test_the_form_of_deformable_convolutions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ops.kernel("cpu") == "gather"
    assert ops.kernel("cuda:1") == "triton"
    choice.replace("nms", "wrong")
    assert ops.kernel("cuda:1") == "triton"
    choice.replace("deformable_convolution", "wrong")
    assert ops.kernel("cuda:1") == "torchvision"
    monkeypatch.setattr(choice, "_replaced", {})
    choice.switch_off()
    assert ops.kernel("cuda:1") == "torchvision"


def rois() -> tuple[torch.Tensor, torch.Tensor]:
    """Two regions of two images, of 64 x 64 pixels, and their levels."""
    return torch.tensor([[0.0, 3, 3, 40, 30], [1.0, 8, 2, 60, 61]]), torch.tensor([0, 1])


def test_without_triton_each_operator_on_a_gpu_takes_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forms for a GPU, called with what lies on a CPU."""
    torch.manual_seed(0)
    monkeypatch.setattr(choice, "has_triton", lambda: False)
    features, offsets, weight = torch.randn(1, 3, 5, 6), torch.randn(1, 18, 5, 6), torch.randn(4, 3, 3, 3)
    logits, found = panoptic_case(0, 5)
    candidates = logits[None], found.boxes, found.mask_logits, found.classes, [5], 5, 5, 0.3
    levels = list(random_pyramid(4, 64, 64)[:4])
    boxes = torch.tensor([[[0.0, 0, 9, 9], [1, 1, 9, 9]]])
    with torch.no_grad():
        convolved = ops.ON_GPU["deformable_convolution"](features, offsets, weight, None, True)
        assert torch.equal(convolved, ops.deform_conv2d_torchvision(features, offsets, weight, None, True))
        pooled = ops.ON_GPU["roi_align"](levels, *rois(), 7)
        assert torch.equal(pooled, ops.roi_align_torchvision(levels, *rois(), 7))
    assert torch.equal(ops.ON_GPU["nms"](boxes, 0.5), cpu.nms(boxes, 0.5))
    for ours, wanted in zip(ops.ON_GPU["panoptic"](*candidates), panoptic_cpu.panoptic(*candidates), strict=True):
        assert torch.equal(ours, wanted)
    decided = segments_case(0, [1, 3])
    assert torch.equal(ops.ON_GPU["segments"](*decided), segments_cpu.segments(*decided))


def test_torchvisions_form_takes_offsets_that_are_no_finite_numbers() -> None:
    torch.manual_seed(0)
    given = torch.randn(1, 3, 5, 6), random_offsets("strange", 1, 18, 5, 6), torch.randn(4, 3, 3, 3)
    found = ops.deform_conv2d_torchvision(*given, None)
    torch.testing.assert_close(found, deform_conv2d_by_samples(*given).float(), atol=1e-4, rtol=0)


def test_with_gradients_torchvision_stands_in_on_a_gpu_too() -> None:
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    convolve = ops.ON_GPU["deformable_convolution"]
    convolve(torch.randn(1, 3, 5, 6), torch.randn(1, 18, 5, 6), weight, None, False).sum().backward()
    assert float(weight.grad.abs().sum()) > 0
    levels = [level.requires_grad_() for level in random_pyramid(4, 64, 64)[:4]]
    ops.ON_GPU["roi_align"](levels, *rois(), 7).sum().backward()
    assert float(levels[0].grad.abs().sum()) > 0


def test_pooling_has_a_backward_where_it_is_asked_for() -> None:
    levels = [level.requires_grad_() for level in random_pyramid(4, 64, 64)[:4]]
    recorded = ops.roi_align(levels, *rois(), 7)
    recorded.sum().backward()
    assert float(levels[1].grad.abs().sum()) > 0
    with torch.no_grad():
        torch.testing.assert_close(ops.roi_align(levels, *rois(), 7), recorded.detach(), atol=1e-5, rtol=1e-5)


def test_large_convolutions_take_fewer_multiplications_and_small_ones_do_not() -> None:
    weight, bias = torch.randn(8, 256, 3, 3), torch.randn(8)
    large, small = torch.randn(2, 256, 46, 46), torch.randn(2, 256, 44, 46)
    with torch.inference_mode():
        assert torch.equal(ops.convolution(large, weight, bias, None, False, 1), winograd(large, weight, bias))
        found = ops.convolution(small, weight, bias, None, False, 1)
        assert torch.equal(found, F.conv2d(small, weight, bias, padding=1))
        alone = ops.convolution(large[:1], weight, bias, None, False, 1)
        assert torch.equal(ops.convolution(large, weight, bias, None, False, 1)[:1], alone)
    assert ops.convolution(large, weight.requires_grad_(), bias, None, False, 1).requires_grad


class Convolve(torch.nn.Module):
    def forward(self, x: torch.Tensor, offsets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.ops.upsnet.deform_conv2d(x, offsets, weight, None)  # type: ignore[no-any-return]


def test_an_operator_is_called_from_a_reloaded_script(tmp_path: Path) -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = torch.randn(1, 3, 5, 6), torch.randn(1, 18, 5, 6), torch.randn(4, 3, 3, 3)
    with quiet(), torch.no_grad():
        torch.jit.script(Convolve()).save(str(tmp_path / "convolve.pt"))
        reloaded = torch.jit.load(str(tmp_path / "convolve.pt"))
        found = reloaded(*(tensor.to(device) for tensor in given)).cpu()
    torch.testing.assert_close(found, deform_conv2d_by_samples(*given).float(), atol=1e-4, rtol=0)


def test_the_schemas_are_those_that_archives_hold() -> None:
    """An argument or a result that changes here makes archives of before unusable: it needs a new format version."""
    names = (
        "convolution",
        "deform_conv2d",
        "deformable_convolution",
        "has_kernels",
        "panoptic",
        "nms",
        "reinterpret",
        "roi_align",
        "segments",
    )
    schemas = {str(getattr(torch.ops.upsnet, name).default._schema).removeprefix("upsnet::") for name in names}
    assert schemas == {
        "convolution(Tensor features, Tensor weight, Tensor? bias, Tensor? other, bool relu, int stride) -> Tensor",
        "deformable_convolution(Tensor features, Tensor offsets, Tensor weight, Tensor? bias, bool relu) -> Tensor",
        "deform_conv2d(Tensor features, Tensor offsets, Tensor weight, Tensor? bias) -> Tensor",
        "has_kernels(Tensor device) -> bool",
        "panoptic(Tensor logits, Tensor boxes, Tensor masks, Tensor classes, int[] counts, int alike, int stuff, "
        "float overlap) -> (Tensor, Tensor, Tensor)",
        "nms(Tensor boxes, float threshold) -> Tensor",
        "reinterpret(Tensor numbers, ScalarType dtype) -> Tensor",
        "roi_align(Tensor[] features, Tensor rois, Tensor levels, int size) -> Tensor",
        "segments(Tensor channels, Tensor semantic, Tensor logits, Tensor classes, Tensor scores, Tensor order, "
        "int[] counts, int[] sizes, float[] scales, int[] originals, int stuff, int stuff_area_limit) -> Tensor",
    }


def test_an_archive_of_before_hears_that_a_cpu_has_no_kernels() -> None:
    assert torch.ops.upsnet.has_kernels(torch.zeros(1)) is False


def test_bits_are_read_as_another_type() -> None:
    numbers = torch.tensor([1.0, -2.0])
    bits = ops.reinterpret(numbers, torch.int32)
    assert bits.tolist() == [0x3F800000, -0x40000000]
    bits[0] = 0
    assert numbers[0] == 1  # a new tensor
    assert ops.reinterpret(numbers, torch.uint8).shape == (8,)

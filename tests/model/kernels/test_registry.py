"""Which form of an operator the dispatcher chooses, and the schemas that archives hold."""

import pytest
import torch

from model import ops
from model.kernels import choice, cpu, panoptic_cpu, plain, segments_cpu, self_check
from tests.model.network.examples import (
    panoptic_case,
    random_pyramid,
    segments_case,
)

pytestmark = pytest.mark.usefixtures("kernels_in_use")


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
        assert torch.equal(convolved, plain.deform_conv2d_torchvision(features, offsets, weight, None, True))
        pooled = ops.ON_GPU["roi_align"](levels, *rois(), 7)
        assert torch.equal(pooled, plain.roi_align_torchvision(levels, *rois(), 7))
    assert torch.equal(ops.ON_GPU["nms"](boxes, 0.5), cpu.nms(boxes, 0.5))
    for ours, wanted in zip(ops.ON_GPU["panoptic"](*candidates), panoptic_cpu.panoptic(*candidates), strict=True):
        assert torch.equal(ours, wanted)
    with torch.no_grad():
        for name in ("convolution", "add_enlarged", "sum_levels"):
            given = next(self_check.CHECKS[name](torch.Generator().manual_seed(0), torch.float32))
            wanted = getattr(plain, f"{name}_torch")(*given)
            assert torch.equal(ops.ON_GPU[name].plain(*given), wanted)
            if name != "convolution":  # cuDNN's form needs no Triton
                assert torch.equal(ops.ON_GPU[name](*given), wanted)
    decided = segments_case(0, [1, 3])
    assert torch.equal(ops.ON_GPU["segments"](*decided), segments_cpu.segments(*decided))


def test_with_gradients_torchvision_stands_in_on_a_gpu_too() -> None:
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    convolve = ops.ON_GPU["deformable_convolution"]
    convolve(torch.randn(1, 3, 5, 6), torch.randn(1, 18, 5, 6), weight, None, False).sum().backward()
    assert float(weight.grad.abs().sum()) > 0
    levels = [level.requires_grad_() for level in random_pyramid(4, 64, 64)[:4]]
    ops.ON_GPU["roi_align"](levels, *rois(), 7).sum().backward()
    assert float(levels[0].grad.abs().sum()) > 0
    for name in ("convolution", "add_enlarged", "sum_levels"):
        given = next(self_check.CHECKS[name](torch.Generator().manual_seed(0), torch.float32))
        first = (given[0] if isinstance(given[0], list) else given)[0].requires_grad_()
        ops.ON_GPU[name](*given).sum().backward()
        assert float(first.grad.abs().sum()) > 0, name


def test_the_schemas_are_those_that_archives_hold() -> None:
    """An argument or a result that changes here makes archives of before unusable: it needs a new format version."""
    names = [name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("upsnet::")]
    schemas = {str(getattr(torch.ops.upsnet, name).default._schema).removeprefix("upsnet::") for name in names}
    assert schemas == {
        "convolution(Tensor features, Tensor weight, Tensor? bias, Tensor? other, bool relu, int stride) -> Tensor",
        "deformable_convolution(Tensor features, Tensor offsets, Tensor weight, Tensor? bias, bool relu) -> Tensor",
        "deform_conv2d(Tensor features, Tensor offsets, Tensor weight, Tensor? bias) -> Tensor",
        "has_kernels(Tensor device) -> bool",
        "panoptic(Tensor logits, Tensor boxes, Tensor masks, Tensor classes, int[] counts, int alike, int stuff, "
        "float overlap) -> (Tensor, Tensor, Tensor)",
        "nms(Tensor boxes, float threshold) -> Tensor",
        "add_enlarged(Tensor fine, Tensor coarse) -> Tensor",
        "sum_levels(Tensor[] levels, Tensor bias) -> Tensor",
        "numbers(float[] numbers, Tensor like) -> Tensor",
        "to_host(Tensor(a) numbers) -> Tensor(a)",
        "reinterpret(Tensor numbers, ScalarType dtype) -> Tensor",
        "roi_align(Tensor[] features, Tensor rois, Tensor levels, int size) -> Tensor",
        "transform(Tensor[] images, Tensor mean, Tensor std, float[] scales, int[] sizes, int height, int width, "
        "ScalarType dtype) -> Tensor",
        "segments(Tensor channels, Tensor semantic, Tensor logits, Tensor classes, Tensor scores, Tensor order, "
        "int[] counts, int[] sizes, float[] scales, int[] originals, int stuff, int stuff_area_limit) -> Tensor",
    }


def test_an_archive_of_before_hears_that_a_cpu_has_no_kernels() -> None:
    assert torch.ops.upsnet.has_kernels(torch.zeros(1)) is False

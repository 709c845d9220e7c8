"""The forms for a CPU, against one sample at a time and torchvision."""

import pytest
import torch
from torchvision.ops import deform_conv2d as torchvisions_deform_conv2d

from model.kernels import cpu
from model.kernels.plain import roi_align_torchvision
from model.network.instance_head import pyramid_levels
from tests.model.network.examples import (
    boxes_of_two_images,
    deform_conv2d_by_samples,
    random_offsets,
    random_pyramid,
)


@pytest.mark.parametrize("kind", ["small", "integer", "border", "far", "strange"])
def test_the_deformable_convolution_equals_float64(kind: str) -> None:
    torch.manual_seed(0)
    features, weight, offsets = torch.randn(1, 3, 5, 6), torch.randn(4, 3, 3, 3), random_offsets(kind, 1, 18, 5, 6)
    with torch.no_grad():
        found = cpu.deform_conv2d(features, offsets, weight, None)
    torch.testing.assert_close(found, deform_conv2d_by_samples(features, offsets, weight).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("columns", [1, 200, cpu.COLUMNS])
def test_chunks_of_a_batch_give_what_each_image_gives_alone(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    features, weight, bias = torch.randn(3, 4, 7, 9), torch.randn(2, 4, 3, 3), torch.randn(2)
    offsets = 2 * torch.randn(3, 18, 7, 9)
    alone = [deform_conv2d_by_samples(features[i : i + 1], offsets[i : i + 1], weight).float() for i in range(3)]
    monkeypatch.setattr(cpu, "COLUMNS", columns)  # one row at a time, a few, all
    with torch.no_grad():
        found = cpu.deform_conv2d(features, offsets, weight, bias)
        last = cpu.deform_conv2d(features.contiguous(memory_format=torch.channels_last), offsets, weight, bias)
        none = cpu.deform_conv2d(features[:0], offsets[:0], weight, bias)
    torch.testing.assert_close(found, torch.cat(alone) + bias[:, None, None], atol=1e-4, rtol=0)
    torch.testing.assert_close(last, found)
    assert none.shape == (0, 2, 7, 9)


def test_deformable_gradients_are_torchvisions() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 6, 5), 2 * torch.randn(2, 18, 6, 5), torch.randn(4, 3, 3, 3), torch.randn(4)]
    for tensor in inputs:
        tensor.requires_grad_()
    ours = torch.autograd.grad(cpu.deform_conv2d(*inputs).square().sum(), inputs)
    theirs = torch.autograd.grad(torchvisions_deform_conv2d(*inputs, padding=1).square().sum(), inputs)
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-3, rtol=1e-4)


def test_each_group_is_suppressed_alone() -> None:
    first, second, apart = [0.0, 0, 10, 10], [0.0, 0, 10, 5], [20.0, 0, 30, 10]  # IoU of the first two: 0.5
    groups = torch.tensor([[first, second, apart], [first, apart, second]])
    assert cpu.nms(groups, 0.49).tolist() == [[True, False, True], [True, True, False]]
    assert cpu.nms(groups, 0.5).all()  # only more suppresses
    assert cpu.nms(groups[:, :0], 0.5).shape == (2, 0)


def test_pooling_equals_torchvisions_in_every_precision() -> None:
    torch.manual_seed(0)
    levels_of_features, boxes = list(random_pyramid(20, 384, 512)[:4]), boxes_of_two_images(60)
    rois = torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)])
    levels = pyramid_levels(rois[:, 1:], 112.0)
    assert levels.unique().tolist() == [0, 1, 2, 3]
    found = cpu.roi_align(levels_of_features, rois, levels, 7)
    torch.testing.assert_close(found, roi_align_torchvision(levels_of_features, rois, levels, 7), atol=1e-5, rtol=1e-5)
    half = cpu.roi_align([level.half() for level in levels_of_features], rois, levels, 7)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), found, atol=5e-3, rtol=1e-3)
    assert cpu.roi_align(levels_of_features, rois[:0], levels[:0], 7).shape == (0, 20, 7, 7)


def test_a_bin_is_the_mean_of_its_samples() -> None:
    """On a ramp along x, without the half-pixel shift, one bin of a region over [4, 8] pixels at stride 4: 1 to 2."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    features = [ramp, ramp[..., :4, :4], ramp[..., :2, :2], ramp[..., :1, :1]]
    found = cpu.roi_align(features, torch.tensor([[0.0, 4, 4, 8, 8]]), torch.zeros(1, dtype=torch.int64), 1)
    assert found.item() == 1.5

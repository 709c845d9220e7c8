"""The forms by torch and torchvision, by hand."""

import torch

from model.kernels import plain
from tests.model.network.examples import (
    deform_conv2d_by_samples,
    random_offsets,
)


def test_torchvisions_form_takes_offsets_that_are_no_finite_numbers() -> None:
    torch.manual_seed(0)
    given = torch.randn(1, 3, 5, 6), random_offsets("strange", 1, 18, 5, 6), torch.randn(4, 3, 3, 3)
    found = plain.deform_conv2d_torchvision(*given, None)
    torch.testing.assert_close(found, deform_conv2d_by_samples(*given).float(), atol=1e-4, rtol=0)


def test_a_convolution_adds_then_cuts_below_zero() -> None:
    features, other = torch.tensor([[[[1.0, 2, 3]]]]), torch.tensor([[[[-5.0, 0, 5]]]])
    weight, bias = torch.ones(1, 1, 3, 3), torch.tensor([-4.0])
    assert plain.convolution_torch(features, weight, bias, None, False, 1).tolist() == [[[[-1, 2, 1]]]]
    assert plain.convolution_torch(features, weight, bias, None, True, 1).tolist() == [[[[0, 2, 1]]]]
    assert plain.convolution_torch(features, weight, bias, other, True, 1).tolist() == [[[[0, 2, 6]]]]
    assert plain.convolution_torch(features, weight, None, None, False, 2).tolist() == [[[[3, 5]]]]


def test_a_coarse_map_adds_each_of_its_pixels_four_times() -> None:
    found = plain.add_enlarged_torch(torch.arange(8.0).view(1, 1, 2, 4), torch.tensor([[[[10.0, 20.0]]]]))
    assert found.tolist() == [[[[10, 11, 22, 23], [14, 15, 26, 27]]]]


def test_the_sum_of_levels_is_bilinear_and_of_float32() -> None:
    levels = [torch.zeros(1, 2, 8 // 2**k, 16 // 2**k).half() for k in range(4)]
    levels[3][0, :, 0] = torch.tensor([[0.0, 8.0], [8.0, 0.0]])
    found = plain.sum_levels_torch(levels, torch.tensor([0.0, 2048.0]))
    ramp = torch.arange(-3.5, 12).clamp(0, 8)
    assert found.dtype == torch.float32
    assert torch.equal(found[0, 0], ramp.expand(8, -1))
    assert torch.equal(found[0, 1], (2056 - ramp).expand(8, -1))  # half precision has no 2049

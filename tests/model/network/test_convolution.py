"""The convolution as a layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import archive
from model.network.convolution import Convolution, normed


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (2, 5, 4, 9), (0, 5, 4, 4)])
def test_it_is_a_convolution_that_keeps_the_size(shape: tuple[int, ...]) -> None:
    conv, features = Convolution(5, 3, 3), torch.randn(shape)
    wanted = F.conv2d(features, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(features), wanted)
    assert conv(features).shape == (shape[0], 3, *shape[2:])


@pytest.mark.parametrize(("size", "stride", "relu"), [(1, 2, False), (3, 2, True), (7, 2, False), (3, 1, True)])
def test_stride_sum_and_relu_are_its_own(size: int, stride: int, relu: bool) -> None:
    conv, features = Convolution(5, 3, size, stride, relu=relu), torch.randn(2, 5, 9, 8)
    wanted = F.conv2d(features, conv.weight, conv.bias, stride, size // 2)
    other = torch.randn_like(wanted)
    added = wanted + other
    torch.testing.assert_close(conv(features), wanted.relu() if relu else wanted)
    torch.testing.assert_close(conv(features, other), added.relu() if relu else added)


@pytest.mark.parametrize(
    ("norm", "kinds"), [(nn.Identity, [nn.Identity] * 2), (nn.BatchNorm2d, [nn.BatchNorm2d, nn.ReLU])]
)
def test_a_relu_is_the_convolutions_where_no_norm_lies_between(norm: type[nn.Module], kinds: list[type]) -> None:
    conv, *rest = normed(Convolution(5, 3, 3), norm() if norm is nn.Identity else norm(3))
    assert isinstance(conv, Convolution)
    assert conv.relu == (norm is nn.Identity)
    assert [type(each) for each in rest] == kinds


def test_its_weights_have_the_names_of_any_convolution() -> None:
    assert set(Convolution(5, 3, 3).state_dict()) == {"weight", "bias"}
    assert set(Convolution(5, 3, 3, bias=False).state_dict()) == {"weight"}


def test_scripted_gives_the_same_bits() -> None:
    conv = Convolution(256, 8, 3, bias=False)
    features = torch.randn(1, 256, 46, 50)
    with archive.quiet(), torch.inference_mode():
        assert torch.equal(torch.jit.script(conv)(features), conv(features))

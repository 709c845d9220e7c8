"""Convolutions by fewer multiplications, against the sum in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import archive
from model.network.convolution import Conv3x3, winograd


def example(count: int, channels: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return features, weight, torch.randn(outputs, generator=generator)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 4), (5, 3), (8, 13), (30, 21)])
@pytest.mark.parametrize("tiles", [1, 7, 256])
def test_winograd_is_the_convolution(size: tuple[int, int], tiles: int) -> None:
    features, weight, bias = example(2, 5, 3, *size)
    wanted = F.conv2d(features.double(), weight.double(), bias.double(), padding=1)
    torch.testing.assert_close(winograd(features, weight, bias, tiles).double(), wanted, atol=1e-5, rtol=0)
    without = wanted - bias.double()[:, None, None]
    torch.testing.assert_close(winograd(features, weight, None, tiles).double(), without, atol=1e-5, rtol=0)


def test_winograd_rounds_within_twice_of_torch() -> None:
    features, weight, bias = example(1, 256, 256, 24, 40)
    wanted = F.conv2d(features.double(), weight.double(), bias.double(), padding=1)
    features, weight = (each.contiguous(memory_format=torch.channels_last) for each in (features, weight))
    ours, theirs = winograd(features, weight, bias), F.conv2d(features, weight, bias, padding=1)
    assert float((ours - wanted).square().mean().sqrt()) < 2 * float((theirs - wanted).square().mean().sqrt())


def test_large_convolutions_take_it_and_small_ones_do_not() -> None:
    conv = Conv3x3(256, 8)
    large, small = torch.randn(2, 256, 46, 46), torch.randn(2, 256, 44, 46)
    with torch.inference_mode():
        assert torch.equal(conv(large), winograd(large, conv.weight, conv.bias))
        assert torch.equal(conv(small), F.conv2d(small, conv.weight, conv.bias, padding=1))
        assert torch.equal(conv(large)[:1], conv(large[:1]))  # alone as in a batch
    assert conv(large).requires_grad


def test_scripted_gives_the_same_bits() -> None:
    conv = Conv3x3(256, 8, bias=False)
    features = torch.randn(1, 256, 46, 50)
    with archive.quiet(), torch.inference_mode():
        assert torch.equal(torch.jit.script(conv)(features), conv(features))

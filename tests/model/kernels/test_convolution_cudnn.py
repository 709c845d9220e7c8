"""The convolution of a GPU: which of its paths is taken can be seen on a CPU, cuDNN itself runs on a device alone."""

import pytest
import torch
from torch import Tensor

from model.kernels.convolution_cudnn import convolution
from model.kernels.plain import convolution_torch

SHAPES = [(64, 32, 3, 1), (64, 32, 1, 1), (64, 32, 1, 2), (64, 32, 3, 2), (3, 64, 7, 2), (5, 19, 1, 1), (37, 13, 3, 1)]
"""Channels of the input and output, size and stride."""


def example(
    channels: int, outputs: int, size: int, stride: int, dtype: torch.dtype, device: str, images: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of odd sides, weights and what is added in channels-last, and a bias."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(images, channels, 21, 13, generator=generator)
    weight = torch.randn(outputs, channels, size, size, generator=generator) / (channels * size * size) ** 0.5
    other = torch.randn(images, outputs, -(-21 // stride), -(-13 // stride), generator=generator)
    maps = [each.to(device, dtype, memory_format=torch.channels_last) for each in (features, weight, other)]
    return maps[0], maps[1], torch.randn(outputs, generator=generator).to(device, dtype), maps[2]


def compare(shape: tuple[int, int, int, int], dtype: torch.dtype, device: str, relu: bool, allowed: float) -> None:
    """With and without bias and sum, against torch in float64."""
    features, weight, bias, other = example(*shape, dtype, device)
    for shift in (bias, None):
        for added in (other, None):
            given = features, weight, shift, added
            in_full = [each if each is None else each.double() for each in given]
            wanted = convolution_torch(*in_full, relu, shape[3])  # type: ignore[arg-type]
            found = convolution(*(each if each is None else each.clone() for each in given), relu, shape[3])  # type: ignore[misc, arg-type]
            assert found.dtype == dtype
            assert found.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(found.double(), wanted, atol=allowed, rtol=allowed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [False, True])
def test_in_float32_it_is_torchs(shape: tuple[int, int, int, int], relu: bool) -> None:
    compare(shape, torch.float32, "cpu", relu, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_relu_half_precision_is_torchs_or_a_matrix_product(
    shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    """Of 1 x 1 with a multiple of eight outputs: cuBLAS adds the bias to the product itself."""
    compare(shape, dtype, "cpu", False, 1e-2 if dtype == torch.float16 else 1e-1)


def test_what_is_added_stays_as_it_was() -> None:
    features, weight, bias, other = example(64, 32, 3, 1, torch.float32, "cpu")
    before = features.clone(), other.clone()
    convolution(features, weight, bias, other, True, 1)
    assert torch.equal(features, before[0])
    assert torch.equal(other, before[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("relu", [False, True])
def test_no_images_give_none(dtype: torch.dtype, relu: bool) -> None:
    """cuDNN refuses them."""
    features, weight, bias, other = example(64, 32, 3, 2, dtype, "cpu", images=0)
    assert convolution(features, weight, bias, other, relu, 2).shape == (0, 32, 11, 7)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_cudnn_adds_and_cuts_as_torch_does(shape: tuple[int, int, int, int], relu: bool, dtype: torch.dtype) -> None:
    compare(shape, dtype, "cuda", relu, 1e-2 if dtype == torch.float16 else 1e-1)


@pytest.mark.gpu
def test_a_device_gives_none_for_no_images() -> None:
    features, weight, bias, other = example(64, 32, 3, 2, torch.float16, "cuda", images=0)
    assert convolution(features, weight, bias, other, True, 2).shape == (0, 32, 11, 7)

"""The convolution by fewer multiplications, against the sum in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.archive import quiet
from model.kernels import convolution_cpu
from model.kernels.convolution_cpu import convolution, rows_around, winograd
from model.kernels.plain import convolution_torch


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


def test_winograd_of_no_images_gives_none() -> None:
    features, weight, bias = example(1, 5, 3, 8, 9)
    assert winograd(features[:0], weight, bias).shape == (0, 3, 8, 9)


def test_rows_beyond_the_image_are_zero() -> None:
    image = torch.arange(1.0, 5.0).view(2, 2, 1)
    assert rows_around(image, -1, 3, 4)[..., 0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0]]
    assert rows_around(image, 1, 2, 4)[..., 0].tolist() == [[0, 3, 4, 0]]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(("channels", "size", "stride"), [(5, 3, 1), (5, 7, 2), (5, 1, 2), (8, 1, 1), (256, 3, 1)])
def test_sum_and_relu_follow_as_in_torch_and_so_do_gradients(
    channels: int, size: int, stride: int, added: bool, relu: bool
) -> None:
    torch.manual_seed(0)
    sides = (48, 43) if channels == 256 else (9, 7)  # large enough for fewer multiplications
    features, weight = torch.randn(2, channels, *sides), torch.randn(3, channels, size, size) / channels**0.5 / size
    bias, other = torch.randn(3), torch.randn(2, 3, -(-sides[0] // stride), -(-sides[1] // stride))
    given = [each.requires_grad_() for each in (features, weight, bias, *([other] if added else []))]
    before = [each.detach().clone() for each in given]
    arguments = (*given, *([] if added else [None]), relu, stride)
    wanted = convolution_torch(*arguments)  # type: ignore[arg-type]
    recorded = convolution(*arguments)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(convolution(*arguments), wanted, atol=1e-5, rtol=1e-5)  # type: ignore[arg-type]
    torch.testing.assert_close(recorded, wanted, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(found.square().sum(), given) for found in (recorded, wanted)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
    for each, kept in zip(given, before, strict=True):
        assert torch.equal(each, kept)


def test_scripted_gives_the_same_bits() -> None:
    features, weight, bias = example(2, 5, 3, 8, 13)
    with quiet():
        assert torch.equal(torch.jit.script(winograd)(features, weight, bias), winograd(features, weight, bias))


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (7, 2)])
def test_one_pass_gives_the_numbers_of_several(size: int, stride: int) -> None:
    if not convolution_cpu.has_fused():
        pytest.skip("torch has no such convolution for this processor")
    torch.manual_seed(0)
    given = torch.randn(2, 16, 9, 11), torch.randn(8, 16, size, size) / (4 * size), torch.randn(8)
    with torch.no_grad():
        plain = F.conv2d(*given, stride, size // 2)
        other = torch.randn(plain.shape)
        found = convolution_cpu.convolution(*given, None, True, stride)
        torch.testing.assert_close(found, plain.relu(), atol=1e-5, rtol=0)
        found = convolution_cpu.convolution(*given, other, True, stride)
        torch.testing.assert_close(found, (plain + other).relu(), atol=1e-5, rtol=0)


def test_without_onednn_the_passes_are_separate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_cpu, "has_fused", lambda: False)
    given = torch.randn(1, 4, 5, 5), torch.randn(4, 4, 3, 3), None
    with torch.no_grad():
        found = convolution_cpu.convolution(*given, given[0], True, 1)
        torch.testing.assert_close(found, (F.conv2d(*given, padding=1) + given[0]).relu())

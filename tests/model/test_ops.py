"""Which form of an operator a device takes, and the operators as an archive calls them."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model import ops
from model.archive import quiet
from model.kernels import choice
from model.kernels.convolution_cpu import winograd
from tests.model.network.examples import (
    deform_conv2d_by_samples,
    random_pyramid,
)

pytestmark = pytest.mark.usefixtures("kernels_in_use")


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


def test_bits_are_read_as_another_type() -> None:
    numbers = torch.tensor([1.0, -2.0])
    bits = ops.reinterpret(numbers, torch.int32)
    assert bits.tolist() == [0x3F800000, -0x40000000]
    bits[0] = 0
    assert numbers[0] == 1  # a new tensor
    assert ops.reinterpret(numbers, torch.uint8).shape == (8,)


def test_numbers_and_what_is_fetched_are_the_same_on_a_cpu() -> None:
    like = torch.zeros(3, dtype=torch.float16)
    found = ops.numbers([1.5, -2.0], like)
    assert (found.tolist(), found.dtype) == ([1.5, -2.0], torch.float32)
    assert ops.numbers([], like).shape == (0,)
    assert torch.equal(ops.to_host(found), found)
    assert not ops.numbers([1.0], torch.zeros(3, requires_grad=True)).requires_grad


@pytest.mark.gpu
def test_numbers_cross_to_a_device_and_back_in_every_type_and_layout() -> None:
    found = ops.numbers([1.5, -2.0], torch.zeros(1, device="cuda"))
    assert (found.device.type, found.dtype, ops.to_host(found).tolist()) == ("cuda", torch.float32, [1.5, -2.0])
    for dtype in (torch.uint8, torch.int64, torch.float16):
        sent = torch.arange(12).to("cuda", dtype).view(3, 4).t()
        fetched = ops.to_host(sent)
        assert (fetched.device.type, fetched.dtype, fetched.tolist()) == ("cpu", dtype, sent.tolist())
        assert fetched.is_pinned()


def test_a_cpu_computes_no_spare_rows() -> None:
    assert [ops.spare_rows(count, torch.zeros(1)) for count in (0, 1, 16, 17)] == [0, 0, 0, 0]


@pytest.mark.gpu
def test_a_gpu_computes_rows_up_to_the_next_sixteen() -> None:
    like = torch.zeros(1, device="cuda")
    assert [ops.spare_rows(count, like) for count in (0, 1, 15, 16, 17)] == [0, 15, 1, 0, 15]

"""The deformable convolution in Triton: on a device, or on CPU tensors in Triton's interpreter (see `conftest.py`)."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import deformable
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import deform_conv2d_by_samples, random_offsets

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_it_runs_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("deformable") == ["_forward"] * 4  # two precisions, few and many outputs


@pytest.mark.parametrize("kind", ["small", "integer", "border", "far", "strange"])
def test_it_equals_float64(kind: str) -> None:
    torch.manual_seed(0)
    features, weight, offsets = torch.randn(1, 3, 5, 6), torch.randn(4, 3, 3, 3), random_offsets(kind, 1, 18, 5, 6)
    found = deformable.deform_conv2d(*(tensor.to(DEVICE) for tensor in (features, offsets, weight)), None).cpu()
    torch.testing.assert_close(found, deform_conv2d_by_samples(features, offsets, weight).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_keeps_positions_exact(dtype: torch.dtype, tolerance: float) -> None:
    """Past column 512 a half-precision position is off by up to a quarter pixel; a ramp shows it."""
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 as integers; needs a device")
    width = 600
    features = (torch.arange(width) / width)[None, None, None].expand(1, 16, 3, width).to(dtype)
    weight = torch.zeros(1, 16, 3, 3, dtype=dtype)
    weight[:, 0, 1, 1] = 1
    offsets = torch.zeros(1, 18, 3, width)
    offsets[:, 9] = 0.3
    found = deformable.deform_conv2d(*(tensor.to(DEVICE) for tensor in (features, offsets, weight)), None)
    wanted = (torch.arange(width - 1) + 0.3) / width
    torch.testing.assert_close(found[0, 0, 1, :-1].cpu().float(), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_relu_comes_last(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    given = torch.randn(2, 37, 5, 7), 2 * torch.randn(2, 18, 5, 7), torch.randn(19, 37, 3, 3), torch.randn(19)
    maps = [each.to(DEVICE, dtype) for each in given]
    plain, cut = (deformable.deform_conv2d(*maps, relu).cpu() for relu in (False, True))
    assert cut.dtype == dtype
    assert 0.2 < float((plain < 0).float().mean()) < 0.8
    assert torch.equal(cut, plain.clamp(min=0))


@pytest.mark.parametrize("outputs", [19, 150])
def test_it_takes_a_batch_of_odd_sizes_and_none(outputs: int) -> None:
    torch.manual_seed(0)
    features, weight, bias = torch.randn(2, 37, 5, 7), torch.randn(outputs, 37, 3, 3), torch.randn(outputs)
    offsets = 2 * torch.randn(2, 18, 5, 7)
    given = [tensor.to(DEVICE) for tensor in (features, offsets, weight, bias)]
    found = deformable.deform_conv2d(*given)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for i in range(2):
        wanted = deform_conv2d_by_samples(features[i : i + 1], offsets[i : i + 1], weight).float()
        torch.testing.assert_close(found[i : i + 1].cpu(), wanted + bias[:, None, None], atol=1e-4, rtol=1e-4)
    assert deformable.deform_conv2d(given[0][:0], given[1][:0], *given[2:]).shape == (0, outputs, 5, 7)


LAST_PIXELS = """
import ctypes, mmap
import torch
from model.kernels import deformable

def before_a_page_without_access(tensor):
    size, page = tensor.numel() * tensor.element_size(), mmap.PAGESIZE
    used = -(-size // page) * page
    memory = mmap.mmap(-1, used + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + used), page, 0) == 0
    moved = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=used - size)
    return moved.view(tensor.shape).copy_(tensor)

table = before_a_page_without_access(torch.ones(1, 7, 10, 16))
moves = before_a_page_without_access(torch.full((1, 7, 10, 18), 0.5))
given = [each.permute(0, 3, 1, 2) for each in (table, moves)]
print(deformable.deform_conv2d(*given, torch.ones(1, 16, 3, 3), None).sum().item())
"""


@pytest.mark.skipif(DEVICE == "cuda", reason="protects memory of the host")
def test_it_reads_nothing_behind_the_last_pixel() -> None:
    """70 pixels are no multiple of a block, and memory ends with them: reading on would end the process."""
    run = subprocess.run([sys.executable, "-c", LAST_PIXELS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) > 0

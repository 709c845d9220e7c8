"""Resizing in Triton: on a device, or on CPU tensors in Triton's interpreter (see `conftest.py`)."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import transform, transform_cpu
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import TRANSFORMS, transform_case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_it_runs_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("transform") == ["_resize"]


def on_device(image: Tensor) -> Tensor:
    """The image with the same strides."""
    there = torch.empty_strided(image.shape, image.stride(), dtype=image.dtype, device=DEVICE)
    return there.copy_(image)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-4), (torch.float16, 0.13)])
def test_it_equals_the_plain_form(name: str, dtype: torch.dtype, allowed: float) -> None:
    """In half precision, grey levels from 128 are 0.125 apart."""
    images, mean, std, *numbers = transform_case(name)
    wanted = transform_cpu.transform(images, mean, std, *numbers, dtype)
    found = transform.transform([on_device(i) for i in images], mean.to(DEVICE), std.to(DEVICE), *numbers, dtype)
    assert (found.shape, found.stride(), found.dtype) == (wanted.shape, wanted.stride(), dtype)
    torch.testing.assert_close(found.cpu(), wanted, atol=allowed, rtol=0)
    assert float((found.cpu() == wanted).float().mean()) > (0.99 if dtype == torch.float16 else 0.2)


def test_positions_are_those_of_float64() -> None:
    """In float32 those at the far end of a long side would be wrong by some thousandths of a pixel."""
    length, scale = 40_000, 0.0333
    image = (torch.arange(length) % 2 * 255).to(torch.uint8).expand(3, 1, length).contiguous()
    size = [1, round(length * scale)]
    numbers = (torch.zeros(3, 1, 1), torch.ones(3, 1, 1), [scale], size, 32, 1344, torch.float32)
    wanted = transform_cpu.transform([image], *numbers)
    given = [each.to(DEVICE) if isinstance(each, Tensor) else each for each in numbers]
    found = transform.transform([on_device(image)], *given)
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-4, rtol=0)

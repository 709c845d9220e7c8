"""Sums over levels in Triton: on a device, or on CPU tensors in Triton's interpreter (see `tests/conftest.py`)."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import levels
from model.kernels.plain import add_enlarged_torch, sum_levels_torch
from tests.model.kernels.occupancy import kernels_that_run_well

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS = [torch.contiguous_format, torch.channels_last]
TYPES = [torch.float32, torch.float16]


def test_they_run_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("levels") == ["_sum_levels", "_add_enlarged"]


def random(dtype: torch.dtype, layout: torch.memory_format, *shape: int) -> Tensor:
    return torch.randn(shape).to(dtype).to(DEVICE, memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("images", "kinds", "rows", "columns"), [(2, 5, 24, 72), (1, 19, 8, 8), (3, 1, 16, 136)])
def test_levels_are_summed_as_by_torch(
    images: int, kinds: int, rows: int, columns: int, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    given = [random(dtype, layout, images, kinds, rows // 2**k, columns // 2**k) for k in range(4)]
    bias = torch.randn(kinds).to(DEVICE, dtype)
    found = levels.sum_levels(given, bias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sum_levels_torch(given, bias), atol=1e-5, rtol=0)  # float32 whatever is given


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("images", "channels", "rows", "columns"), [(2, 5, 6, 10), (1, 300, 2, 2), (3, 1, 14, 2), (1, 16, 2, 70)]
)
def test_a_coarse_map_is_added_as_by_torch(
    images: int, channels: int, rows: int, columns: int, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    fine = random(dtype, layout, images, channels, rows, columns)
    coarse = random(dtype, layout, images, channels, rows // 2, columns // 2)
    found = levels.add_enlarged(fine, coarse)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, add_enlarged_torch(fine, coarse), atol=0, rtol=0)


def test_maps_of_different_layouts_are_added() -> None:
    fine = random(torch.float32, torch.channels_last, 2, 5, 6, 10)
    coarse = random(torch.float32, torch.contiguous_format, 2, 5, 3, 5)
    assert torch.equal(levels.add_enlarged(fine, coarse), add_enlarged_torch(fine, coarse))


def test_no_images_give_none() -> None:
    given = [torch.zeros(0, 5, 16 // 2**k, 24 // 2**k, device=DEVICE) for k in range(4)]
    assert levels.sum_levels(given, torch.zeros(5, device=DEVICE)).shape == (0, 5, 16, 24)
    assert levels.add_enlarged(given[0], given[1]).shape == (0, 5, 16, 24)

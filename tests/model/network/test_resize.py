"""Enlarged maps, against torch's own interface."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.archive import quiet
from model.network.resize import enlarge_bilinear, enlarge_nearest


def nearest_by_torch(maps: Tensor, factor: float) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="nearest")


def bilinear_by_torch(maps: Tensor, factor: float) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("ours", "torchs"), [(enlarge_nearest, nearest_by_torch), (enlarge_bilinear, bilinear_by_torch)]
)
def test_enlarged_maps_and_their_gradients_are_torchs_bit_by_bit(
    ours: Callable[[Tensor, float], Tensor],
    torchs: Callable[[Tensor, float], Tensor],
    layout: torch.memory_format,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 7, 9).to(dtype, memory_format=layout).requires_grad_()
    with quiet():
        scripted = torch.jit.script(ours)
    for factor in (2.0, 4.0, 8.0):
        wanted = torchs(maps, factor)
        (gradient,) = torch.autograd.grad(wanted.square().sum(), maps)
        for form in (ours, scripted):
            found = form(maps, factor)
            assert torch.equal(found, wanted)
            assert found.stride() == wanted.stride()
            assert torch.equal(torch.autograd.grad(found.square().sum(), maps)[0], gradient)


def test_a_pixel_is_repeated_or_mixed_with_its_neighbours() -> None:
    maps = torch.tensor([[[[0.0, 4.0]]]])
    assert enlarge_nearest(maps, 2.0)[0, 0].tolist() == [[0, 0, 4, 4]] * 2
    assert enlarge_bilinear(maps, 2.0)[0, 0].tolist() == [[0, 1, 3, 4]] * 2

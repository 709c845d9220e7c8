"""Resizing by hand, and written plainly."""

import pytest
import torch
from torch import Tensor

from model.kernels import transform_cpu
from tests.model.network.examples import TRANSFORMS, transform_case


def plainly(image: Tensor, mean: Tensor, std: Tensor, scale: float, height: int, width: int) -> Tensor:
    """(3, H, W) -> (3, height, width): normalised first, then rows, then columns."""
    result = (image.float() - mean) / std
    for dim, length in ((1, height), (2, width)):
        steps = torch.arange(length, dtype=torch.float64)
        positions = ((steps + 0.5) / scale - 0.5).clamp(0, result.size(dim) - 1)
        before = positions.floor().long()
        after = (before + 1).clamp(max=result.size(dim) - 1)
        weight = (positions - before).float().view(-1, 1) if dim == 1 else (positions - before).float()
        result = result.index_select(dim, before) * (1 - weight) + result.index_select(dim, after) * weight
    return result


def test_resizing_uses_the_exact_factor() -> None:
    ramp = torch.arange(10).expand(3, 1, 10)
    resized = transform_cpu.resize(ramp, torch.zeros(3), torch.ones(3), 0.75, 1, 8)[
        0, :, 0
    ]  # sample k is at (k + 0.5) / 0.75 - 0.5
    wanted = [min((k + 0.5) / 0.75 - 0.5, 9) for k in range(8)]
    torch.testing.assert_close(resized, torch.tensor(wanted))


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_equals_what_is_written_plainly(name: str, dtype: torch.dtype) -> None:
    images, mean, std, scales, sizes, height, width = transform_case(name)
    given = [image.clone() for image in images]
    batch = transform_cpu.transform(images, mean, std, scales, sizes, height, width, dtype)
    assert batch.shape == (len(images), 3, height, width)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for i, image in enumerate(given):
        rows, columns = sizes[2 * i : 2 * i + 2]
        wanted = torch.zeros(3, height, width)
        wanted[:, :rows, :columns] = plainly(image, mean, std, scales[i], rows, columns)
        assert torch.equal(batch[i], wanted.to(dtype))
        assert torch.equal(images[i], image)

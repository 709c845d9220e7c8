"""From images to the padded batch, by hand."""

import pytest
import torch

from model.archive import quiet
from model.network.images import ImageTransform


def grey(height: int, width: int, level: int = 7) -> torch.Tensor:
    return torch.full((3, height, width), level, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(480, 640, (800, 1067)), (500, 1000, (666, 1333)), (1, 20_000, (1, 1333)), (1, 1, (800, 800))],
)
def test_sides_are_scaled_and_never_vanish(height: int, width: int, size: tuple[int, int]) -> None:
    batch = ImageTransform([0.0] * 3, [1.0] * 3, 800, 1333)([grey(height, width)])
    assert batch.sizes == [size]
    assert batch.original_sizes == [(height, width)]
    for side, padded in zip(size, batch.pixels.shape[2:], strict=True):
        assert padded % 32 == 0
        assert 0 <= padded - side < 32


def test_pixels_lose_the_mean_and_padding_is_zero() -> None:
    transform = ImageTransform([1.0, 2.0, 3.0], [2.0, 1.0, 1.0], 40, 80)
    with quiet():
        scripted = torch.jit.script(transform)
    for module in (transform, scripted):
        batch = module([grey(40, 50), grey(40, 60)])
        assert batch.pixels.shape == (2, 3, 64, 64)
        assert batch.pixels[0, :, 39, 49].tolist() == [3, 5, 4]
        assert batch.pixels[0, :, :, 50:].abs().sum() == batch.pixels[0, :, 40:].abs().sum() == 0
        assert batch.pixels[1, :, 39, 59].tolist() == [3, 5, 4]
        assert batch.scales == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_batch_is_what_the_backbone_takes(dtype: torch.dtype) -> None:
    transform = ImageTransform([1.1, 2.2, 3.3], [2.0, 1.0, 1.0], 40, 80)
    with quiet():
        scripted = torch.jit.script(transform)
    for images in ([grey(40, 50)], [grey(20, 25), grey(40, 60)]):
        batch = scripted(images, dtype)
        assert batch.pixels.dtype == dtype
        assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.pixels, transform(images).pixels.to(dtype))


def test_images_of_other_padded_sizes_are_refused() -> None:
    transform = ImageTransform([0.0] * 3, [1.0] * 3, 64, 128)
    with pytest.raises(ValueError, match="image 1 is 64 x 128"):
        transform([grey(64, 64), grey(64, 128)])

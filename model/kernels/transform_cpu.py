"""Resizing on a CPU, and on a GPU without Triton: image by image, in the layout that the backbone takes."""

import torch
from torch import Tensor


def transform(
    images: list[Tensor],
    mean: Tensor,
    std: Tensor,
    scales: list[float],
    sizes: list[int],
    height: int,
    width: int,
    dtype: torch.dtype,
) -> Tensor:
    """As `model.ops.transform`, computed in float32."""
    batch = torch.empty((len(images), height, width, 3), dtype=dtype, device=mean.device)
    for i, (image, scale) in enumerate(zip(images, scales, strict=True)):
        rows, columns = sizes[2 * i : 2 * i + 2]
        batch[i, :rows, :columns] = resize(image, mean, std, scale, rows, columns)
        batch[i, :rows, columns:] = 0
        batch[i, rows:] = 0
    return batch.permute(0, 3, 1, 2)


def resize(image: Tensor, mean: Tensor, std: Tensor, scale: float, height: int, width: int) -> Tensor:
    """Resize by an exact factor, not by the ratio of the sides.

    Positions are (dst + 0.5) / scale - 0.5, clamped at the border, in float64: float32 positions move a photo's
    pixels by up to 6e-3 grey levels, the ratio of the sides by up to 96.

    Args:
        image: (3, H, W) of any type and strides.
        mean: (3, 1, 1) float32, subtracted.
        std: (3, 1, 1) float32, divided by.
        scale: factor that both sides are resized by.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (height, width, 3) float32.
    """
    pixels = image.permute(1, 2, 0)
    if scale == 1 and pixels.shape[:2] == (height, width):
        return _normalise(pixels, mean, std)  # every position is that of a pixel
    upper, lower, down = _neighbours(height, scale, pixels.size(0), pixels.device)
    if 2 * height < pixels.size(0):  # fewer rows are read than there are
        above, below = _normalise(pixels[upper], mean, std), _normalise(pixels[lower], mean, std)
    else:
        pixels = _normalise(pixels, mean, std)
        above, below = pixels[upper], pixels[lower]
    pixels = above.mul_(1 - down[:, None]).add_(below.mul_(down[:, None]))  # (height, W, 3)
    left, right, across = _neighbours(width, scale, pixels.size(1), pixels.device)
    first = torch.arange(height, device=pixels.device)[:, None] * pixels.size(1)  # of each row
    table = pixels.flatten(0, 1)  # `embedding` gathers its rows faster than indexing does
    before, after = torch.embedding(table, first + left), torch.embedding(table, first + right)
    return before.mul_(1 - across).add_(after.mul_(across))


def _normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(H, W, 3) of any type and strides -> new, contiguous, float32."""
    return pixels.contiguous().to(torch.float32, copy=True).sub_(mean.flatten()).div_(std.flatten())


def _neighbours(length: int, scale: float, source_length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Along an axis: the pixels before and after each of `length` positions, and (length, 1) weights of the latter."""
    steps = torch.arange(length, dtype=torch.float64, device=device)
    positions = ((steps + 0.5) / scale - 0.5).clamp(0, source_length - 1)
    whole = positions.floor()
    before = whole.long()
    return before, (before + 1).clamp(max=source_length - 1), (positions - whole).float()[:, None]

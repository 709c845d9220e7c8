"""From RGB pixels to the padded batch that the backbone sees."""

import torch
from torch import Tensor, nn

from model.interface.scale import padded_size, scaled_side, test_scale
from model.network.structures import Batch


def resize_bilinear(image: Tensor, scale: float, height: int, width: int) -> Tensor:
    """Resize by an exact factor, not by the ratio of the sides.

    Positions are (dst + 0.5) / scale - 0.5, clamped at the border, in float64: float32 positions move a photo's
    pixels by up to 6e-3 grey levels, the ratio of the sides by up to 96.

    Args:
        image: (C, H, W) float.
        scale: factor that both sides are resized by.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (C, height, width), same type.
    """
    rows = _positions(height, scale, image.size(1), image.device)
    top = rows.floor()
    y = top.long()
    weight = (rows - top).to(image.dtype)[:, None]
    lower = (y + 1).clamp(max=image.size(1) - 1)
    image = image[:, y] * (1 - weight) + image[:, lower] * weight  # (C, H, W) -> (C, height, W)
    columns = _positions(width, scale, image.size(2), image.device)
    left = columns.floor()
    x = left.long()
    weight = (columns - left).to(image.dtype)
    right = (x + 1).clamp(max=image.size(2) - 1)
    return image[:, :, x] * (1 - weight) + image[:, :, right] * weight


def _positions(length: int, scale: float, source_length: int, device: torch.device) -> Tensor:
    steps = torch.arange(length, dtype=torch.float64, device=device)
    return ((steps + 0.5) / scale - 0.5).clamp(0, source_length - 1)


class ImageTransform(nn.Module):
    """Subtracts the mean, resizes to the test scale, pads to a multiple of 32.

    Args:
        mean: means of R, G and B, which are subtracted, in grey levels.
        std: deviations of R, G and B, which the differences are divided by; 1 in the published networks.
        short_side: length of the resized short side, pixels.
        long_side: largest length of the resized long side, pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float], short_side: int, long_side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.short_side = short_side
        self.long_side = long_side

    def scale(self, height: int, width: int) -> float:
        """The factor an image of this size is resized by."""
        return test_scale(height, width, self.short_side, self.long_side)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the padded, resized image: images that agree in it can share a batch."""
        return padded_size(height, width, self.short_side, self.long_side)

    def normalise(self, image: Tensor) -> Tensor:
        """(3, H, W) of any type as zero-mean float32."""
        return (image.float() - self.mean) / self.std

    def forward(self, images: list[Tensor]) -> Batch:
        """Make a batch.

        Args:
            images: (3, H, W) uint8 RGB, one or more, all of one padded size.

        Returns:
            The batch. An image's pixels do not depend on its neighbours: each is padded to its own multiple of 32
            (quirk Q12).

        Raises:
            ValueError: the images differ in padded size.
        """
        height, width = self.padded_size(images[0].size(1), images[0].size(2))
        pixels = torch.zeros((len(images), 3, height, width), device=self.mean.device)
        sizes: list[tuple[int, int]] = []
        scales: list[float] = []
        original_sizes: list[tuple[int, int]] = []
        for i, image in enumerate(images):
            original = (image.size(1), image.size(2))
            if self.padded_size(original[0], original[1]) != (height, width):
                raise ValueError(
                    f"image {i} is {original[0]} x {original[1]}: its padded size differs from the batch's"
                )
            scale = self.scale(original[0], original[1])
            size = (scaled_side(original[0], scale), scaled_side(original[1], scale))
            pixels[i, :, : size[0], : size[1]] = resize_bilinear(self.normalise(image), scale, size[0], size[1])
            sizes.append(size)
            scales.append(scale)
            original_sizes.append(original)
        return Batch(pixels, sizes, scales, original_sizes)

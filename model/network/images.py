"""From RGB pixels to the padded batch that the backbone sees."""

import torch
from torch import Tensor, nn

from model import ops
from model.interface.scale import padded_size, scaled_side, test_scale
from model.network import boxes as box_ops
from model.network.structures import Batch


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

    def forward(self, images: list[Tensor], dtype: torch.dtype = torch.float32) -> Batch:
        """Make a batch.

        Args:
            images: (3, H, W) uint8 RGB, one or more, all of one padded size.
            dtype: type of the batch's pixels, that of the network's weights.

        Returns:
            The batch. An image's pixels do not depend on its neighbours: each is padded to its own multiple of 32
            (quirk Q12).

        Raises:
            ValueError: the images differ in padded size.
        """
        height, width = self.padded_size(images[0].size(1), images[0].size(2))
        sizes: list[tuple[int, int]] = []
        sides: list[int] = []
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
            sizes.append(size)
            sides += [size[0], size[1]]
            scales.append(scale)
            original_sizes.append(original)
        pixels = ops.transform(images, self.mean, self.std, scales, sides, height, width, dtype)
        return Batch(pixels, sizes, scales, original_sizes, box_ops.limits(sizes, pixels))

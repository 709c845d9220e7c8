"""What is known of an image file before its pixels are decoded."""

from collections.abc import Callable
from typing import NamedTuple

from model.interface.panoptic import Pixels


class Opened(NamedTuple):
    """An image file whose header was read.

    Attributes:
        height: pixels, as stored.
        width: pixels, as stored.
        pixels: decodes (H, W, 3) uint8 RGB, as stored; called once the size is allowed.
        orientation: EXIF's, 1..8.
        passes: how often the decoder goes over the pixels.
    """

    height: int
    width: int
    pixels: Callable[[], Pixels]
    orientation: int = 1
    passes: int = 1

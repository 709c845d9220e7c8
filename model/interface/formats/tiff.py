"""TIFF files: the first picture, if it is of a kind that is decoded exactly."""

import numpy as np

from model.interface.formats import claims
from model.interface.formats.errors import CorruptImageError
from model.interface.formats.rgb import upright
from model.interface.formats.tiff_colour import Colour
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import check_not_raw, check_tile, read_pieces, read_samples
from model.interface.formats.tiff_samples import Stored
from model.interface.panoptic import Pixels

BAND_PIXELS = 1 << 17
"""Pixels that are computed at a time: their steps take up to 60 bytes each."""


class Tiff:
    """A TIFF file whose header was read, before any of its pixels is decoded.

    Args:
        content: the file.
        max_pixels: most pixels that a tile may have.

    Raises:
        UnsupportedImageError: it is of a kind that is not decoded.
        ImageTooLargeError: its tiles are larger than any picture may be.
        CorruptImageError: its header is damaged.

    Attributes:
        size: width and height, as stored.
    """

    def __init__(self, content: bytes, max_pixels: int) -> None:
        self._content, self._tags = content, Directory(content)
        self.size = self._tags.number(256, 0), self._tags.number(257, 0)
        if 256 not in self._tags or 257 not in self._tags:
            raise CorruptImageError("The image is damaged: its header lacks the size. Send the whole file.")
        check_not_raw(content, self._tags)
        self._samples = read_samples(self._tags)
        self._pieces = read_pieces(self._tags, self._samples, self.size[1], self.size[0])
        self._colour = Colour(self._samples, self._tags, self._pieces.compression)
        check_tile(self._pieces, max_pixels)

    def decode(self) -> Pixels:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            CorruptImageError: it is truncated or damaged.
        """
        width, height = self.size
        stored = Stored(self._content, self._tags, self._samples, self._pieces)
        pixels = np.empty((height, width, 3), np.uint8)
        step = self._pieces.cell[0]
        band = max(1, BAND_PIXELS // width // step) * step
        for top in range(0, height, band):
            bottom = min(top + band, height)
            pixels[top:bottom] = self._colour.rgb(stored.rows(top, bottom))
        orientation = self._tags.number(274, 1)
        return upright(pixels, orientation if 1 <= orientation <= 8 else 1)


def open_tiff(content: bytes, max_pixels: int) -> Tiff | None:
    """A TIFF file; None for any other."""
    return Tiff(content, max_pixels) if content.startswith(claims.TIFF) else None

"""TIFF files: the first picture, if it is of a kind that is decoded exactly."""

import numpy as np

from model.interface.formats import libtiff
from model.interface.formats.errors import CorruptImageError
from model.interface.formats.jpeg import passes_inside
from model.interface.formats.opened import Opened
from model.interface.formats.tiff_colour import Colour
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import JPEG, check_not_raw, check_tile, covered, read_pieces, read_samples
from model.interface.formats.tiff_samples import Stored
from model.interface.panoptic import Pixels

BAND_PIXELS = 1 << 17
"""Pixels that are computed at a time: their steps take up to 60 bytes each."""


def open_tiff(content: bytes, max_pixels: int) -> Opened:
    """A TIFF file whose header was read, before any of its pixels is decoded.

    Args:
        content: the file.
        max_pixels: most pixels that a tile may have.

    Raises:
        UnsupportedImageError: it is of a kind that is not decoded.
        ImageTooLargeError: its tiles are larger than any picture may be.
        CorruptImageError: its header is damaged.
    """
    libtiff.silence()
    tags = Directory(content)
    width, height = tags.number(256, 0), tags.number(257, 0)
    if 256 not in tags or 257 not in tags:
        raise CorruptImageError("The image is damaged: its header lacks the size. Send the whole file.")
    check_not_raw(content, tags)
    samples = read_samples(tags)
    pieces = read_pieces(tags, samples, height, width)
    colour = Colour(samples, tags, pieces.compression)
    check_tile(pieces, height, width, max_pixels)

    def pixels() -> Pixels:
        stored = Stored(content, tags, samples, pieces)
        decoded = np.empty((height, width, 3), np.uint8)
        step = pieces.cell[0]
        band = max(1, BAND_PIXELS // width // step) * step
        for top in range(0, height, band):
            bottom = min(top + band, height)
            decoded[top:bottom] = colour.rgb(stored.rows(top, bottom))
        return decoded

    passes = max(1, covered(pieces, height, width) // max(1, height * width))
    if pieces.compression == JPEG:
        passes *= passes_inside(content)
    return Opened(height, width, pixels, tags.hint(274, tuple(range(1, 9))), passes)

"""Samples of TIFF to 8-bit RGB."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.interface.formats.errors import CorruptImageError
from model.interface.formats.rgb import to_rgb
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import (
    CMYK,
    JPEG,
    PALETTE,
    WHITE_IS_ZERO,
    YCBCR,
    Numbers,
    Samples,
    unsupported,
)
from model.interface.panoptic import Pixels

_PALETTE, _LUMA, _RANGES = 320, 529, 532


class Colour:
    """What the samples of a pixel look like.

    Args:
        samples: what a pixel is made of.
        tags: of the picture; a palette or the coefficients of YCbCr are read.
        compression: of the picture; libtiff returns the YCbCr of a JPEG as RGB.

    Raises:
        CorruptImageError: the palette is not as large as its bits say.
        UnsupportedImageError: the coefficients give no colours.
    """

    def __init__(self, samples: Samples, tags: Directory, compression: int) -> None:
        self._samples = samples
        self._most = (1 << samples.bits) - 1
        self._palette = _palette(tags, samples.bits) if samples.photometric == PALETTE else None
        stored_as_ycbcr = samples.photometric == YCBCR and (compression != JPEG or samples.planar)
        self._ycbcr = _ycbcr(tags) if stored_as_ycbcr else None
        # n -> n * 255 / most, to the nearest
        numbers = np.arange(self._most + 1, dtype=np.uint32)
        self._eight = ((numbers * 255 + self._most // 2) // self._most).astype(np.uint8)

    def rgb(self, numbers: Numbers) -> Pixels:
        """(H, W, 3) uint8 of (H, W, samples). Alpha is dropped; what was multiplied by it is divided first."""
        if self._palette is not None:
            seen: Pixels = self._palette[numbers[:, :, 0]]
            return seen
        colours = numbers[:, :, : self._samples.colours]
        if self._samples.alpha is not None:
            eight = _divided(colours, numbers[:, :, self._samples.alpha, None])
        else:
            eight = colours if self._samples.bits == 8 else self._eight[colours]
        if self._samples.photometric == CMYK:
            return to_rgb(Image.frombytes("CMYK", (eight.shape[1], len(eight)), eight.tobytes()))
        if self._ycbcr is not None:
            eight = np.clip(np.rint(eight @ self._ycbcr[0] + self._ycbcr[1]), 0, 255).astype(np.uint8)
        if self._samples.photometric == WHITE_IS_ZERO:
            eight = 255 - eight
        return np.repeat(eight, 3, axis=2) if self._samples.colours == 1 else eight


def _divided(colours: Numbers, alpha: Numbers) -> Pixels:
    """The colours that were multiplied by alpha; black where it is 0."""
    whole = (colours.astype(np.uint32) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.where(alpha == 0, 0, np.minimum(whole, 255)).astype(np.uint8)


def _palette(tags: Directory, bits: int) -> Pixels:
    """(colours, 3)."""
    numbers = tags.numbers(_PALETTE, most=3 << bits)
    if len(numbers) != 3 << bits:
        raise CorruptImageError("The image is damaged: its palette lacks colours. Send the whole file.")
    shift = 8 if max(numbers) > 255 else 0  # as libtiff takes a palette whose numbers have 8 bits: else all is black
    return (np.array(numbers).reshape(3, -1).T >> shift).astype(np.uint8)


def _ycbcr(tags: Directory) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Matrix and offset of samples to colours (TIFF 6.0, section 21)."""
    red, green, blue = np.array(tags.fractions(_LUMA, (0.299, 0.587, 0.114)))
    ranges = np.array(tags.fractions(_RANGES, (0, 255, 128, 255, 128, 255))).reshape(3, 2)
    with np.errstate(all="ignore"):
        scale = np.array([255, 127, 127]) / (ranges[:, 1] - ranges[:, 0])
        matrix = np.array(
            [
                [1, 1, 1],
                [0, -(2 - 2 * blue) * blue / green, 2 - 2 * blue],
                [2 - 2 * red, -(2 - 2 * red) * red / green, 0],
            ]
        )
        matrix = matrix * scale[:, None]
        offset = -ranges[:, 0] @ matrix
    if not (np.isfinite(matrix).all() and np.isfinite(offset).all()):
        raise unsupported("YCbCr without coefficients")
    return matrix.astype(np.float32), offset.astype(np.float32)

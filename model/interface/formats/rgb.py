"""Pillow images of any mode to upright 8-bit RGB."""

import numpy as np
from PIL import Image

from model.interface.formats.errors import UnsupportedImageError
from model.interface.panoptic import Pixels

BAND_PIXELS = 1 << 20
"""Pixels that are converted at a time: a whole picture at once would be in memory several times."""


def to_rgb(image: Image.Image) -> Pixels:
    """(H, W, 3) of a loaded image of any mode. In bands: every conversion of a whole picture would copy it."""
    if image.mode == "F":
        raise UnsupportedImageError("Image has floating-point pixels. Send 8 or 16 bits a channel.")
    width, height = image.size
    band = max(1, BAND_PIXELS // width)
    if height <= band:
        return _band_to_rgb(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, band):
        bottom = min(top + band, height)
        pixels[top:bottom] = _band_to_rgb(image.crop((0, top, width, bottom)))
    return pixels


def _band_to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion clips them to white
        grey = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The picture upright, from pixels stored with an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)

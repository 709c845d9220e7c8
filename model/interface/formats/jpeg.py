"""JPEG to RGB by libjpeg-turbo itself."""

import simplejpeg
from PIL import Image

from model.interface.panoptic import Pixels


def decode_jpeg(content: bytes, image: Image.Image) -> Pixels | None:
    """The same pixels as Pillow's, a third faster; None leaves the file to Pillow.

    Args:
        content: the file.
        image: the file as Pillow opened it; its size is allowed.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        if (width, height) != image.size:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:  # damaged, which Pillow may accept, or of a rare kind
        return None
    return pixels

"""Small pictures, and as files."""

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(width: int = 8, height: int = 6) -> Image.Image:
    ramp = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(ramp)

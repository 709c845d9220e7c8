"""JPEG at once, the pixels of Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats.jpeg import decode_jpeg
from tests.model.interface.pictures import encoded, gradient

LIMIT = 1_000_000


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options", [{"subsampling": k} for k in range(3)] + [{"progressive": True}, {"keep_rgb": True}]
)
def test_sound_jpegs_are_decoded_at_once_and_as_pillow_does(mode: str, options: dict[str, object]) -> None:
    for width, height in ((1, 1), (17, 9), (64, 33)):
        content = encoded(gradient(width, height).convert(mode), "JPEG", quality=85, **options)
        image = Image.open(io.BytesIO(content))
        pixels = decode_jpeg(content, image)
        assert pixels is not None
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_damaged_jpegs_come_out_as_pillow_has_them() -> None:
    sound = encoded(gradient(64, 48), "JPEG", quality=90)
    rng = np.random.default_rng(0)
    left = 0
    for _ in range(200):
        content = bytearray(sound)
        place = int(rng.integers(2, len(content) - 20))
        content[place : place + 8] = rng.bytes(8)
        try:
            image = Image.open(io.BytesIO(content), formats=["JPEG"])
            wanted = np.asarray(image.convert("RGB"))
            pixels = codec.decode(bytes(content), LIMIT)
        except Exception:
            continue
        left += decode_jpeg(bytes(content), image) is None
        assert np.array_equal(pixels, wanted)
    assert left > 20

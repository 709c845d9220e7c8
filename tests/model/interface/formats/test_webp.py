"""libwebp without Pillow's canvases gives Pillow's pixels, and leaves to it what is not sound."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats import webp

KINDS: list[dict[str, Any]] = [
    {"lossless": True},
    {"lossless": True, "exact": True},
    {"quality": 70},
    {"quality": 10, "alpha_quality": 20},
]


def noise(mode: str, number: int = 0) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (37, 53, len(mode)), np.uint8)
    return Image.fromarray(pixels).resize((211, 307))


def saved(frames: list[Image.Image], **options: Any) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("frames", [1, 3])
def test_pixels_are_those_of_pillow(frames: int, mode: str, options: dict[str, Any]) -> None:
    content = saved([noise(mode, number) for number in range(frames)], **options)
    image = Image.open(io.BytesIO(content))
    pixels = webp.decode_webp(content, image)
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_a_first_frame_that_does_not_fill_the_canvas_is_left_to_pillow() -> None:
    content = bytearray(saved([noise("RGB", number) for number in range(2)], lossless=True))
    place = content.index(b"ANMF") + 8
    content[place : place + 3] = (1).to_bytes(3, "little")  # two pixels to the right
    content[24:27] = struct.pack("<I", 300)[:3]  # on a canvas of 301 pixels
    image = Image.open(io.BytesIO(content))
    assert webp.decode_webp(bytes(content), image) is None
    assert codec.decode(bytes(content), 1_000_000)[0, :2].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_picture_smaller_than_its_frame_is_not_decoded_into_memory_that_was_someone_elses() -> None:
    content = bytearray(saved([noise("RGB", number) for number in range(2)], lossless=True))
    image = Image.open(io.BytesIO(bytes(content)))
    place = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[place : place + 4], "little")
    content[place : place + 4] = (bits & ~0x3FFF | 99).to_bytes(4, "little")  # its own width is 100 now
    assert webp.decode_webp(bytes(content), image) is None


def test_damaged_files_come_out_as_pillow_has_them() -> None:
    rng = np.random.default_rng(0)
    for options in KINDS:
        sound = saved([noise("RGBA")], **options)
        for _ in range(40):
            content = bytearray(sound)
            place = int(rng.integers(12, len(content) - 8))
            content[place : place + 8] = rng.bytes(8)
            try:
                wanted = np.asarray(Image.open(io.BytesIO(content), formats=["WEBP"]).convert("RGB"))
            except Exception:
                wanted = None
            try:
                found = codec.decode(bytes(content), 1_000_000)
            except codec.ImageError:
                found = None
            assert (wanted is None) == (found is None)
            assert wanted is None or np.array_equal(found, wanted)

"""Formats by their bytes; what only begins like one is none."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats.identify import FORMATS, format_of
from tests.model.interface.pictures import encoded, gradient


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_by_their_bytes(name: str) -> None:
    content = encoded(gradient(), name.upper())
    assert format_of(content) == ("JPEG" if name == "MPO" else name)


def wave() -> bytes:
    return (
        b"RIFF" + struct.pack("<I", 60) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + bytes(24)
    )


OTHERS = {
    "nothing": b"",
    "a sound": wave(),
    "a film": b"RIFF\x10\0\0\0AVI LIST" + bytes(99),
    "a cursor": b"RIFF\x10\0\0\0ACONanih" + bytes(99),
    "MIDI in RIFF": b"RIFF\x10\0\0\0RMIDdata" + bytes(99),
    "a large sound": b"RF64\xff\xff\xff\xffWAVE" + bytes(99),
    "big-endian RIFF": b"RIFX\0\0\0\x10WEBPVP8 " + bytes(99),
    "RIFF": b"RIFF",
    "a text about RIFF": b"RIFF is a container.",
    "a text about BMW": b"BMW builds cars in Munich, and has for a hundred years.",
    "BM": b"BM",
    "BM and binary": b"BM" + bytes(60),
    "an array of bitmaps": b"BA" + struct.pack("<IIHH", 14, 0, 0, 0) + b"BM" + bytes(60),
    "a text about GIF": b"GIF89a is a format of 1989.",
    "a text about GIF, in lines": b"GIF87a\nand\r\n\tGIF89a",
    "II": b"II. The second chapter",
    "MM": b"MM is 2000 in Roman numbers.",
    "a text about PNG": b"PNG is a format.",
    "MNG": b"\x8aMNG\r\n\x1a\n" + bytes(60),
    "JNG": b"\x8bJNG\r\n\x1a\n" + bytes(60),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "a stream of JPEG 2000": b"\xff\x4f\xff\x51" + bytes(60),
    "JPEG XL": b"\xff\x0a" + bytes(60),
    "JPEG XL, boxed": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60),
    "two bytes of JPEG": b"\xff\xd8",
    "a start of JPEG and a text": b"\xff\xd8text",
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(60),
    "Photoshop": b"8BPS\0\1" + bytes(60),
    "an icon": b"\0\0\1\0\1\0" + bytes(60),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_image_is_told_so(name: str) -> None:
    assert format_of(OTHERS[name]) is None
    with pytest.raises(codec.UnsupportedImageError, match="Not an image in an accepted format"):
        codec.decode(OTHERS[name], 1_000_000)


@pytest.mark.parametrize("size", [12, 16, 40, 52, 56, 64, 108, 124])
def test_a_bmp_is_known_by_the_size_of_its_header(size: int) -> None:
    assert format_of(b"BM" + bytes(12) + struct.pack("<I", size)) == "BMP"


def test_the_first_of_several_pictures_is_shown() -> None:
    first, second = gradient(16, 9), Image.new("RGB", (8, 8), (9, 9, 9))
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.array_equal(codec.decode(content, 1000), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))

"""The first picture of a GIF, whatever else is in the file."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from tests.model.interface.pictures import encoded, gradient

LIMIT = 1_000_000
SOUND = encoded(gradient(19, 13).quantize(32), "GIF")
WANTED = np.asarray(Image.open(io.BytesIO(SOUND)).convert("RGB"))
SCREEN = 13 + (3 << (SOUND[10] & 7) + 1)
FRAME = SOUND.index(b",\0\0\0\0", SCREEN)


def extended(*blocks: bytes, end: bytes = b"") -> bytes:
    """The same file with extensions before the picture, and another end."""
    return SOUND[:FRAME] + b"".join(blocks) + SOUND[FRAME:-1] + end


EXTENSIONS = {
    "an empty comment": b"!\xfe\0",
    "comments": b"!\xfe\3abc\1d\0!\xfe\2ef\0",
    "a comment of all bytes": b"!\xfe\xff" + bytes(range(255)) + b"\0",
    "an empty application": b"!\xff\0",
    "a short application": b"!\xff\3abc\0",
    "a loop without a count": b"!\xff\x0bNETSCAPE2.0\1\1\0",
    "a loop without its block": b"!\xff\x0bNETSCAPE2.0\0",
    "XMP that turns": b'!\xff\x0bXMP DataXMP\x14tiff:Orientation="6"\0',
    "an empty control": b"!\xf9\0",
    "a short control": b"!\xf9\1\1\0",
    "a long control": b"!\xf9\x09\0\0\0\0\0\0\0\0\0\0",
    "a plain text": b"!\x01\x0c" + bytes(12) + b"\3abc\0",
    "an unknown extension": b"!\x77\2\1\2\0",
    "bytes of no meaning": b"\0\0\0",
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_no_extension_refuses_a_picture(name: str) -> None:
    for count in (1, 50):
        assert np.array_equal(codec.decode(extended(EXTENSIONS[name] * count, end=b";"), LIMIT), WANTED)


@pytest.mark.parametrize("end", [b"", b";more", b"!\xfe\xffcut", b"noise", b",\0\0"])
def test_what_follows_the_picture_does_not_matter(end: bytes) -> None:
    assert np.array_equal(codec.decode(extended(end=end), LIMIT), WANTED)


@pytest.mark.parametrize("options", [{}, {"interlace": 1}, {"interlace": 0}, {"transparency": 3}])
@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_pictures_are_those_of_pillow(mode: str, options: dict[str, int]) -> None:
    for width, height in ((1, 1), (5, 3), (40, 31)):
        content = encoded(gradient(width, height).convert(mode), "GIF", **options)
        wanted = Image.open(io.BytesIO(content)).convert("RGBA").convert("RGB")
        assert np.array_equal(codec.decode(content, LIMIT), np.asarray(wanted))


@pytest.mark.parametrize("transparent", [None, 5])
def test_a_picture_smaller_than_its_screen_lies_on_one_colour(transparent: int | None) -> None:
    control = b"" if transparent is None else b"!\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
    content = bytearray(extended(control, end=b";"))
    content[6:10] = struct.pack("<HH", 30, 20)
    place = content.index(b",\0\0\0\0", SCREEN)
    content[place + 1 : place + 5] = struct.pack("<HH", 4, 2)
    pixels = codec.decode(bytes(content), LIMIT)
    assert pixels.shape == (20, 30, 3)
    assert np.array_equal(pixels[2:15, 4:23], WANTED)
    colour = SOUND[13 + 3 * (transparent or 0) :][:3]
    assert pixels[0, 0].tolist() == pixels[19, 29].tolist() == list(colour)
    wanted = Image.open(io.BytesIO(content)).convert("RGBA").convert("RGB")
    assert np.array_equal(pixels, np.asarray(wanted))


def test_a_picture_larger_than_its_screen_enlarges_it() -> None:
    content = SOUND[:6] + struct.pack("<HH", 3, 3) + SOUND[10:]
    assert np.array_equal(codec.decode(content, LIMIT), WANTED)


@pytest.mark.parametrize(
    "content",
    [SOUND[:10], SOUND[:SCREEN], SOUND[:FRAME], SOUND[: FRAME + 10], SOUND[: FRAME + 40], SOUND[:FRAME] + b";"],
)
def test_without_its_picture_it_is_damaged(content: bytes) -> None:
    with pytest.raises(codec.CorruptImageError):
        codec.decode(content, LIMIT)

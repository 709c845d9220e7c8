"""EXIF's orientation, as browsers read it."""

import struct

import pytest
from PIL import Image

from model.interface.formats.exif import orientation


def block(*entries: tuple[int, int, int, bytes], order: str = "<", place: int = 8) -> bytes:
    """A directory of tags: number, type, count, value."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place) + bytes(place - 8)
    tags = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(order + "H", len(entries)) + tags + bytes(4)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_one_number_of_16_bits_is_read(order: str, value: int) -> None:
    number = struct.pack(order + "HH", value, 0)
    others = [(271, 2, 4, b"abc\0"), (274, 3, 1, number), (305, 2, 4, b"xyz\0")]
    for place in (8, 500):
        assert orientation(block(*others, order=order, place=place)) == value
    assert orientation(b"Exif\0\0" + block(*others, order=order)) == value
    assert orientation(memoryview(block(*others, order=order))) == value


def test_pillows_block_is_read() -> None:
    exif = Image.Exif()
    exif[274], exif[271] = 5, "maker"
    assert orientation(exif.tobytes()) == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Exif\0\0",
        b"noise" * 99,
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        block(),
        block((274, 3, 1, b"\0\0\0\0")),
        block((274, 3, 1, b"\x09\0\0\0")),
        block((274, 3, 2, b"\6\0\6\0")),
        block((274, 4, 1, b"\6\0\0\0")),
        block((274, 1, 1, b"\6\0\0\0")),
        block((274, 2, 1, b"6\0\0\0")),
        block((274, 3, 1, b"\6\0\0\0"))[:16],
        block((275, 3, 1, b"\6\0\0\0")),
        block((274, 3, 1, b"\1\0\0\0"), (274, 3, 1, b"\6\0\0\0")),
        b"II+\0" + block((274, 3, 1, b"\6\0\0\0"))[4:],
    ],
)
def test_all_else_turns_nothing(content: bytes) -> None:
    assert orientation(content) == 1

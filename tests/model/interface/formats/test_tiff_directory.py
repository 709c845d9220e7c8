"""Tags of a TIFF, read without believing them."""

import struct
import time

import pytest

from model.interface.formats.errors import CorruptImageError
from model.interface.formats.tiff_directory import Directory
from tests.model.interface.formats.tiff_files import written


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_numbers_of_every_layout(order: str, big: bool) -> None:
    tags = Directory(
        written({258: (3, (8, 8, 8)), 256: (4, (70_000,)), 529: (5, (1, 2, 3, 4, 5, 0))}, [b"x"], order, big)
    )
    assert (tags.order, tags.number(256, 0), tags.numbers(258), tags.numbers(258, most=2)) == (
        order,
        70_000,
        (8, 8, 8),
        (8, 8),
    )
    assert (tags.numbers(999), tags.number(999, 5), 999 in tags, 258 in tags) == ((), 5, False, True)
    half, three_quarters, infinite = tags.fractions(529, (0.0, 0.0, 0.0))
    assert (half, three_quarters, infinite == infinite) == (0.5, 0.75, False)


def test_signed_numbers_are_numbers_unless_negative() -> None:
    tags = Directory(
        written({256: (9, (640,)), 257: (8, (480,)), 258: (8, (8, -8)), 259: (17, (1,))}, [b"x"], "<", True)
    )
    assert [tags.number(tag, 0) for tag in (256, 257, 259)] == [640, 480, 1]
    with pytest.raises(CorruptImageError):
        tags.numbers(258)


def test_a_hint_is_one_of_the_known_numbers() -> None:
    tags = Directory(written({274: (3, (6,)), 266: (3, (0,)), 296: (2, (2, 0))}, [b"x"], "<", False))
    assert [tags.hint(tag, (1, 2, 6)) for tag in (274, 266, 296, 999)] == [6, 1, 1, 1]


def test_a_count_beyond_the_file_costs_nothing() -> None:
    begun = time.process_time()
    entry = struct.pack("<HHII", 273, 4, 0xFFFFFFFF, 8)
    tags = Directory(b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4))
    with pytest.raises(CorruptImageError):
        tags.numbers(273, most=1 << 40)
    assert tags.numbers(273, most=1) == (1 | 273 << 16,)
    assert time.process_time() - begun < 0.1


@pytest.mark.parametrize("content", [b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0"])
def test_a_directory_outside_the_file_is_damaged(content: bytes) -> None:
    with pytest.raises(CorruptImageError, match="header cannot be read"):
        Directory(content)


def test_too_many_tags_are_refused() -> None:
    with pytest.raises(CorruptImageError, match="more than 4096 tags"):
        Directory(b"II*\0" + struct.pack("<IH", 8, 5000) + bytes(60_000))


def test_a_damaged_inner_directory_is_passed_over() -> None:
    tags = Directory(written({330: (4, (0xFFFFFF, 8))}, [bytes(6)], "<", False))
    assert len(list(tags.others())) == 1


def test_numbers_of_another_type_are_damaged() -> None:
    with pytest.raises(CorruptImageError):
        Directory(written({256: (7, (1, 2, 3, 4))}, [b"x"], "<", False)).number(256, 0)

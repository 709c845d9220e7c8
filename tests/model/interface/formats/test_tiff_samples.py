"""Unpacked samples."""

import struct

import numpy as np
import pytest
import simplejpeg

from model.interface.formats.errors import CorruptImageError, UnsupportedImageError
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import read_pieces, read_samples
from model.interface.formats.tiff_samples import Stored
from tests.model.interface.formats.tiff_files import LONG, SHORT, Tags, tiff_of, written


def stored(content: bytes, height: int, width: int) -> Stored:
    tags = Directory(content)
    samples = read_samples(tags)
    return Stored(content, tags, samples, read_pieces(tags, samples, height, width))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_rows_are_what_was_packed(bits: int, planar: bool, tile: tuple[int, int] | None) -> None:
    kind = np.uint8 if bits <= 8 else np.uint16
    numbers = np.random.default_rng(0).integers(0, 1 << bits, (33, 21, 3)).astype(kind)
    found = stored(tiff_of(numbers, 2, bits, planar=planar, tile=tile, rows=5, compression=8, order=">"), 33, 21)
    rows = found.rows(7, 30)
    assert rows.dtype == kind
    assert np.array_equal(rows, numbers[7:30])


def test_planes_behind_the_colours_are_not_unpacked() -> None:
    """They may even be missing."""
    whole = tiff_of(np.full((2, 2, 4), 7, np.uint8), 2, planar=True)
    assert stored(whole, 2, 2).rows(0, 2).shape == (2, 2, 3)


def test_tiles_that_are_left_out_are_a_kind_and_strips_that_lack_are_damage() -> None:
    numbers = np.zeros((8, 4, 1), np.uint8)
    sparse = {273: (LONG, (8, 0)), 279: (LONG, (16, 0))}
    with pytest.raises(UnsupportedImageError, match="leaves out empty tiles"):
        stored(patched(tiff_of(numbers, 1, rows=4), sparse), 8, 4)
    with pytest.raises(CorruptImageError, match="too few strips"):
        stored(tiff_of(numbers, 1, more={278: (LONG, (2,))}), 8, 4)


@pytest.mark.parametrize(("tile", "rows"), [((4, 16), None), (None, 4)])
def test_the_directory_behind_a_short_strip_is_no_picture(tile: tuple[int, int] | None, rows: int | None) -> None:
    whole = tiff_of(np.zeros((8, 16, 1), np.uint8), 1, tile=tile, rows=rows)
    assert stored(whole, 8, 16).rows(0, 8).shape == (8, 16, 1)
    with pytest.raises(CorruptImageError):
        stored(patched(whole, {325 if tile else 279: (LONG, (64, 63))}), 8, 16)


def test_one_strip_may_say_less_than_it_has_but_not_have_less() -> None:
    numbers = np.full((8, 16, 1), 9, np.uint8)
    whole = tiff_of(numbers, 1)
    size = struct.pack("<HHII", 279, 4, 1, 128)
    assert whole.count(size) == 1
    lies = whole.replace(size, struct.pack("<HHII", 279, 4, 1, 5))
    assert np.array_equal(stored(lies, 8, 16).rows(0, 8), numbers)
    with pytest.raises(CorruptImageError):
        stored(tiff_of(numbers, 1, more={257: (LONG, (9,)), 278: (LONG, (9,))}), 9, 16)


def test_a_jpeg_knows_better_how_its_chroma_is_shared() -> None:
    numbers = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    packed = simplejpeg.encode_jpeg(numbers, 90, colorsubsampling="444")
    tags: Tags = {256: (LONG, (16,)), 257: (LONG, (16,)), 258: (SHORT, (8, 8, 8)), 259: (SHORT, (7,))}
    tags |= {262: (SHORT, (6,)), 277: (SHORT, (3,)), 278: (LONG, (16,)), 530: (SHORT, (2, 2))}
    found = stored(written(tags, [packed], "<", False), 16, 16).rows(0, 16)
    assert np.array_equal(found, simplejpeg.decode_jpeg(packed))


def patched(content: bytes, changes: dict[int, tuple[int, tuple[int, ...]]]) -> bytes:
    for tag, (_, values) in changes.items():
        before = np.array(Directory(content).numbers(tag), "<u4").tobytes()
        assert content.count(before) == 1
        content = content.replace(before, np.array(values, "<u4").tobytes())
    return content


def jpegs(packed: list[bytes], height: int, width: int = 32) -> bytes:
    tags: Tags = {256: (LONG, (width,)), 257: (LONG, (height,)), 258: (SHORT, (8,)), 259: (SHORT, (7,))}
    tags |= {262: (SHORT, (1,)), 277: (SHORT, (1,)), 278: (LONG, (16,))}
    return written(tags, packed, "<", False)


def noise(height: int) -> bytes:
    numbers = np.random.default_rng(0).integers(0, 256, (height, 32, 1), np.uint8)
    return simplejpeg.encode_jpeg(numbers, 90, colorspace="GRAY")


def test_a_jpeg_inside_that_lacks_blocks_is_damaged() -> None:
    whole = noise(16)
    early = whole[: 3 * len(whole) // 4] + b"\xff\xd9"
    assert stored(jpegs([whole, whole], 32), 32, 32).rows(0, 32).shape == (32, 32, 1)
    for packed in ([early, whole], [whole, early]):
        with pytest.raises(CorruptImageError):
            stored(jpegs(packed, 32), 32, 32)


def test_a_jpeg_inside_may_lack_its_end_mark_and_have_more_rows_than_are_left() -> None:
    whole = noise(16)
    assert stored(jpegs([whole[:-2], whole], 27), 27, 32).rows(0, 27).shape == (27, 32, 1)


def test_jpegs_that_overlap_are_damage() -> None:
    whole = noise(16)
    content = jpegs([whole + bytes(4000)] * 4, 64)
    assert stored(content, 64, 32).rows(0, 64).shape == (64, 32, 1)
    sizes = tuple(len(content) - place for place in Directory(content).numbers(273))
    with pytest.raises(CorruptImageError):
        stored(patched(content, {279: (LONG, sizes)}), 64, 32)

"""Unpacked samples."""

import numpy as np
import pytest

from model.interface.formats.errors import CorruptImageError, UnsupportedImageError
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import read_pieces, read_samples
from model.interface.formats.tiff_samples import Stored
from tests.model.interface.formats.tiff_files import LONG, tiff_of


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


def patched(content: bytes, changes: dict[int, tuple[int, tuple[int, ...]]]) -> bytes:
    for tag, (_, values) in changes.items():
        before = np.array(Directory(content).numbers(tag), "<u4").tobytes()
        assert content.count(before) == 1
        content = content.replace(before, np.array(values, "<u4").tobytes())
    return content

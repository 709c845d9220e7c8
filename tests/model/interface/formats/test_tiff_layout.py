"""The allow-list: what the tags say, as far as it is decoded."""

import pytest

from model.interface.formats.errors import CorruptImageError, UnsupportedImageError
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import Pieces, Samples, read_pieces, read_samples
from tests.model.interface.formats.tiff_files import SHORT, Tags, written


def directory(more: Tags) -> Directory:
    return Directory(written({262: (SHORT, (1,)), 258: (SHORT, (8,))} | more, [b"x"], "<", False))


def test_one_number_of_bits_is_that_of_every_sample() -> None:
    tags = directory({262: (SHORT, (2,)), 277: (SHORT, (3,)), 284: (SHORT, (2,))})
    assert read_samples(tags) == Samples(2, 3, 3, 8, None, True, "<")


def test_a_picture_is_one_strip_unless_it_says_more() -> None:
    tags = directory({})
    assert read_pieces(tags, read_samples(tags), 30, 20) == Pieces(1, False, 30, 20, False, (1, 1))


def test_a_predictor_belongs_to_some_compressions_alone() -> None:
    tags = directory({317: (SHORT, (2,))})
    assert not read_pieces(tags, read_samples(tags), 30, 20).differences


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({258: (SHORT, (1,)), 322: (SHORT, (20,)), 323: (SHORT, (16,))}, "tiles whose rows end inside a byte"),
        ({259: (SHORT, (7,)), 258: (SHORT, (16,))}, "JPEG compression of 1 samples of 16 bits"),
    ],
)
def test_rare_ways_of_packing_are_refused(more: Tags, reason: str) -> None:
    tags = directory(more)
    with pytest.raises(UnsupportedImageError, match=reason):
        read_pieces(tags, read_samples(tags), 30, 20)


def test_pieces_without_pixels_and_pixels_without_colours_are_damaged() -> None:
    tags = directory({278: (SHORT, (0,))})
    with pytest.raises(CorruptImageError, match="no pixels"):
        read_pieces(tags, read_samples(tags), 30, 20)
    with pytest.raises(CorruptImageError, match="lacks colours"):
        read_samples(directory({262: (SHORT, (2,))}))

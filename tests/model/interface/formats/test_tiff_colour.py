"""Samples to colours."""

import numpy as np
import pytest

from model.interface.formats.errors import UnsupportedImageError
from model.interface.formats.tiff_colour import Colour
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import RAW, read_samples
from tests.model.interface.formats.tiff_files import SHORT, Tags, written


def colour(more: Tags) -> Colour:
    tags = Directory(written({258: (SHORT, (8,))} | more, [b"x"], "<", False))
    return Colour(read_samples(tags), tags, RAW)


def test_ranges_of_video_are_stretched() -> None:
    """16 is black and 235 is white, as TIFF 6.0 has it for CCIR 601."""
    ranges = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    found = colour({262: (SHORT, (6,)), 277: (SHORT, (3,)), 532: (5, ranges)})
    numbers = np.array([[[16, 128, 128], [235, 128, 128], [126, 128, 128]]], np.uint8)
    assert found.rgb(numbers)[0, :, 0].tolist() == [0, 255, 128]


def test_coefficients_without_green_are_refused() -> None:
    with pytest.raises(UnsupportedImageError, match="without coefficients"):
        colour({262: (SHORT, (6,)), 277: (SHORT, (3,)), 529: (5, (1, 2, 0, 1, 1, 2))})


@pytest.mark.parametrize(("most", "step"), [(255, 1), (65_280, 256), (65_535, 257)])
def test_palettes_of_8_bits_are_known_by_their_numbers(most: int, step: int) -> None:
    tags: Tags = {258: (SHORT, (1,)), 262: (SHORT, (3,)), 320: (SHORT, (10 * step, most, 20 * step, 0, 30 * step, 0))}
    found = colour(tags)
    assert found.rgb(np.array([[[0], [1]]], np.uint8)).tolist() == [[[10, 20, 30], [255, 0, 0]]]


def test_a_colour_above_its_alpha_is_white() -> None:
    found = colour({262: (SHORT, (1,)), 277: (SHORT, (2,)), 338: (SHORT, (1,))})
    numbers = np.array([[[9, 3], [9, 18], [9, 0]]], np.uint8)
    assert found.rgb(numbers)[0, :, 2].tolist() == [255, 128, 0]

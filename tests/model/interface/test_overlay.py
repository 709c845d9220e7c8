"""The picture of an answer: the same however it is cut into bands, and in bounded memory."""

import tracemalloc

import numpy as np
import pytest

from model.interface import overlay
from model.interface.panoptic import Panoptic, Segment

COLORS = {7: (128, 64, 128), 26: (0, 0, 142)}


def answer(height: int, width: int) -> Panoptic:
    """Void above, road in the middle, a car below."""
    ids = np.zeros((height, width), np.uint8)
    third = height // 3
    ids[third : 2 * third], ids[2 * third :] = 1, 2
    road = Segment(1, 7, "road", False, 0.9, third * width, (0, third, width, third))
    car = Segment(2, 26, "car", True, 0.8, (height - 2 * third) * width, (0, 2 * third, width, height - 2 * third))
    return Panoptic(ids, (road, car))


def test_void_is_grey_segments_are_tinted_and_borders_white() -> None:
    image = np.full((9, 4, 3), (30, 60, 90), np.uint8)
    painted = overlay.draw_overlay(image, Panoptic(answer(9, 4).segment_ids, ()), COLORS)
    assert painted[0, 0].tolist() == [45, 60, 75]  # half of the photo, half of its mean
    assert painted[2, 1].tolist() == [255, 255, 255]  # the row below is another segment
    found = answer(90, 60)
    road = overlay.draw_overlay(np.full((90, 60, 3), (30, 60, 90), np.uint8), found, COLORS)[31, 1]
    assert road.tolist() == [(30 + 128) // 2, (60 + 64) // 2, (90 + 128) // 2]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (97, 61)])
@pytest.mark.parametrize("band", [1, 700])
def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], band: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    whole = overlay.draw_overlay(image, answer(*size), COLORS)
    monkeypatch.setattr(overlay, "BAND_PIXELS", band)
    assert np.array_equal(overlay.draw_overlay(image, answer(*size), COLORS), whole)


def test_a_picture_too_narrow_for_a_label_has_none() -> None:
    found = answer(900, 24)
    image = np.full((900, 24, 3), 200, np.uint8)
    bare = overlay.draw_overlay(image, Panoptic(found.segment_ids, ()), COLORS)
    narrow = overlay.draw_overlay(image, found, COLORS)
    assert len(np.unique(narrow[310:590].reshape(-1, 3), axis=0)) == 1  # the road, and no letter on it
    wide = overlay.draw_overlay(np.full((900, 240, 3), 200, np.uint8), answer(900, 240), COLORS)
    assert len(np.unique(wide[310:590].reshape(-1, 3), axis=0)) > 1
    assert np.array_equal(bare[:299], narrow[:299])


@pytest.mark.parametrize(("side", "width"), [(90, 1), (1399, 1), (1400, 2), (2800, 4)])
def test_outlines_grow_with_the_picture(side: int, width: int) -> None:
    painted = overlay.draw_overlay(np.zeros((side, side, 3), np.uint8), answer(side, side), COLORS)
    white = (painted[:, 1] == 255).all(axis=1)
    assert white.sum() == 2 * width  # two borders
    assert white[side // 3 - 1]


def test_memory_is_bounded_by_the_picture() -> None:
    image = np.zeros((2000, 4000, 3), np.uint8)
    tracemalloc.start()
    overlay.draw_overlay(image, answer(2000, 4000), COLORS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2000 * 4000

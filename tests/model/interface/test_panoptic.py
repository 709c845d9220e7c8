"""The answer to an image."""

import numpy as np

from model.interface.panoptic import Panoptic, Segment


def test_what_no_segment_covers_is_void() -> None:
    ids = np.array([[0, 1, 1], [2, 2, 2]], np.uint8)
    road = Segment(1, 7, "road", False, 0.5, 2, (1, 0, 2, 1))
    car = Segment(2, 26, "car", True, 0.9, 3, (0, 1, 3, 1))
    assert Panoptic(ids, (road, car)).void_area == 1
    assert Panoptic(ids, ()).void_area == 6

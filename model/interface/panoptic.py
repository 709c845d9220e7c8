"""An image and the answer to it, as numpy: they pass between the service and the model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image, (H, W, 3) RGB, or a map of segments, (H, W)."""


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
        id: its value in the map, from 1.
        category_id: the dataset's own id.
        category: the category's name.
        isthing: whether instances of the category are told apart.
        score: a thing's detection score; for stuff the mean softmax of its class over the segment.
        area: pixels.
        bbox: x, y, width, height; exact.
    """

    id: int
    category_id: int
    category: str
    isthing: bool
    score: float
    area: int
    bbox: tuple[int, int, int, int]


@dataclass(frozen=True)
class Panoptic:
    """The panoptic segmentation of one image.

    Attributes:
        segment_ids: (H, W) uint8, size of the image; 0 is void, segments are 1..n without gaps.
        segments: in the order of their ids.
    """

    segment_ids: Pixels
    segments: tuple[Segment, ...]

    @property
    def void_area(self) -> int:
        """Pixels of no segment."""
        return int(self.segment_ids.size) - sum(segment.area for segment in self.segments)

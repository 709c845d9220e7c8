"""The bundled archive answers the bundled photos as ever."""

import numpy as np
import pytest
from PIL import Image

from model.predictor import Predictor
from tests.paths import DEMO, EXAMPLES


@pytest.mark.parametrize(
    ("name", "segments"),
    [
        (
            "china_small.jpg",
            [
                (1, "sky", 29241, (0, 0, 320, 166), 0.9214),
                (2, "building", 12088, (0, 29, 194, 184), 0.632),
                (6, "tree", 19327, (0, 0, 320, 214), 0.8146),
                (7, "sign", 6278, (0, 67, 168, 147), 0.5757),
                (8, "fence", 1045, (33, 152, 203, 62), 0.4091),
            ],
        ),
        (
            "coffee_small.jpg",
            [
                (9, "car", 2198, (0, 0, 71, 45), 0.9625),
                (9, "car", 894, (79, 196, 64, 18), 0.7462),
                (9, "car", 3587, (96, 10, 112, 44), 0.5488),
                (1, "sky", 1088, (96, 22, 224, 71), 0.6421),
                (2, "building", 28457, (0, 0, 320, 214), 0.6977),
                (6, "tree", 23631, (0, 0, 320, 214), 0.7601),
                (7, "sign", 7590, (42, 44, 212, 154), 0.6648),
            ],
        ),
    ],
)
def test_the_bundled_archive_answers_the_bundled_photos_as_ever(
    name: str, segments: list[tuple[int, str, int, tuple[int, int, int, int], float]]
) -> None:
    """Another CPU rounds otherwise: a few pixels at the edges of segments may differ."""
    found = Predictor(DEMO, "cpu", "float32").predict([np.asarray(Image.open(EXAMPLES / name))])[0].segments
    assert [(segment.category_id, segment.category) for segment in found] == [wanted[:2] for wanted in segments]
    for segment, (_, _, area, box, score) in zip(found, segments, strict=True):
        assert segment.area == pytest.approx(area, abs=20)
        assert segment.bbox == pytest.approx(box, abs=4)
        assert segment.score == pytest.approx(score, abs=0.002)

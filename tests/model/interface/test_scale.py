"""The front's padded size against the network's own."""

import random

import pytest

from model.interface.scale import padded_size


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (480, 640)),
        (1, 20000, (32, 640)),
        (960, 1280, (480, 640)),
        (100, 100, (480, 480)),
        (479, 641, (480, 672)),
        (720, 960, (480, 640)),
    ],
)
def test_padded_size_is_the_next_multiple_of_32_of_the_resized_sides(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    long_side = 672 if height == 479 else 640
    assert padded_size(height, width, 480, long_side) == expected


def test_padded_size_is_the_networks() -> None:
    images = pytest.importorskip("model.network.images")
    source = random.Random(0)
    for short, long in [(800, 1333), (1024, 2048), (320, 480)]:
        transform = images.ImageTransform([0.0] * 3, [1.0] * 3, short, long)
        for _ in range(500):
            height, width = source.randint(1, 4000), source.randint(1, 4000)
            assert padded_size(height, width, short, long) == transform.padded_size(height, width)

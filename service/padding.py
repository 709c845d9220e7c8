"""The size the network will work at, computed without the network: what images share a batch."""

from collections.abc import Mapping

MULTIPLE = 32


def padded_size(height: int, width: int, test_scale: Mapping[str, int]) -> tuple[int, int]:
    """Height and width of an image after it is resized and padded; what the archive's own `padded_size` gives.

    Args:
        height: of the image.
        width: of the image.
        test_scale: `short_side` and `long_side` of the archive's metadata.
    """
    short, long = min(height, width), max(height, width)
    scale = test_scale["short_side"] / short
    if round(scale * long) > test_scale["long_side"]:
        scale = test_scale["long_side"] / long
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    return -(-rows // MULTIPLE) * MULTIPLE, -(-columns // MULTIPLE) * MULTIPLE

"""The size that the network works at, computed without the network: images of one such size can share a batch."""


def test_scale(height: int, width: int, short_side: int, long_side: int) -> float:
    """The factor that brings the short side to `short_side` unless the long one would pass `long_side`."""
    scale = short_side / min(height, width)
    if round(scale * max(height, width)) > long_side:
        scale = long_side / max(height, width)
    return scale


def scaled_side(side: int, scale: float) -> int:
    """A resized side: rounded half to even, and never 0 (20000 x 1 is an image)."""
    return max(int(round(side * scale)), 1)  # noqa: RUF046 -- TorchScript rounds to a float


def padded_side(side: int) -> int:
    """The next multiple of 32, the coarsest stride of the backbone."""
    return (side + 31) // 32 * 32


def padded_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width of an image after it is resized to the test scale and padded."""
    scale = test_scale(height, width, short_side, long_side)
    return padded_side(scaled_side(height, scale)), padded_side(scaled_side(width, scale))

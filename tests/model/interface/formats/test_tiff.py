"""Which TIFF files are decoded."""

import pytest

from model.interface import codec
from tests.service.tiffs import tiff_tile


def test_tiles_larger_than_any_picture_are_refused() -> None:
    with pytest.raises(codec.ImageTooLargeError, match="tiles of 2000 x 2000"):
        codec.decode(tiff_tile(1, 1, 2000), 1_000_000)

"""Every mode to RGB, in bands."""

import numpy as np
import pytest

from model.interface.formats import rgb
from tests.model.interface.pictures import gradient


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I"])
def test_a_large_image_is_converted_in_bands_to_the_same_pixels(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = gradient(31, 17).convert("L" if mode in ("I;16", "I") else mode if mode != "PA" else "P")
    image = image.convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    whole = rgb.to_rgb(image)
    monkeypatch.setattr(rgb, "BAND_PIXELS", 70)
    assert np.array_equal(rgb.to_rgb(image), whole)

"""Every format's opener says the size before a pixel is decoded."""

import pytest

from model.interface.codec import _OPENERS
from tests.model.interface.pictures import encoded, gradient


@pytest.mark.parametrize("form", _OPENERS)
def test_a_size_is_known_before_the_pixels(form: str) -> None:
    opened = _OPENERS[form](encoded(gradient(9, 7), form.upper()))
    assert (opened.height, opened.width, opened.orientation, opened.passes) == (7, 9, 1, 1)
    assert opened.pixels().shape == (7, 9, 3)

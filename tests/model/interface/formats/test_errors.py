"""One class for all refusals of an image file."""

import pytest

from model.interface import codec
from model.interface.formats import errors


@pytest.mark.parametrize("kind", ["CorruptImageError", "ImageTooLargeError", "UnsupportedImageError"])
def test_every_refusal_is_an_image_error_and_the_codecs_own(kind: str) -> None:
    assert issubclass(getattr(errors, kind), errors.ImageError)
    assert getattr(codec, kind) is getattr(errors, kind)

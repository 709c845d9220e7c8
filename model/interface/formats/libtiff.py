"""Silence for libtiff, which writes thousands of lines about a damaged file to stderr, past every log."""

import contextlib
import ctypes
import functools

from PIL import _imaging


@functools.cache
def silence() -> None:
    """Remove libtiff's message handlers, once; Pillow still tells that a file is damaged.

    Without effect where Pillow hides its libtiff.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(_imaging.__file__)  # also finds what Pillow is linked with
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)

"""What libtiff says of a damaged file: nothing, for it would write thousands of lines to stderr past every log."""

import contextlib
import ctypes
import functools

from PIL import _imaging


@functools.cache
def silence() -> None:
    """Take its handlers away; that a file is damaged shows in what Pillow returns.

    A Pillow that hides its libtiff keeps them.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(_imaging.__file__)  # finds the names of what that is linked with, too
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)

"""What libtiff says: nothing to stderr, where it writes thousands of lines about one file, past every log."""

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator

from PIL import _imaging

from model.interface.formats.errors import CorruptImageError, UnsupportedImageError

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""Takes the part of libtiff that speaks, the message's format, and its values, which must never be touched."""


class _Listener:
    """Notes whether libtiff reports an error in one thread. There is one, for ever: a late call must find it."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_imaging.__file__)  # also finds what Pillow is linked with
        library.TIFFSetWarningHandler(None)
        self._set, self._handler = library.TIFFSetErrorHandler, _Handler(self._note)
        self._one_at_a_time, self._thread, self._heard = threading.Lock(), 0, False
        self._set(None)

    def _note(self, _module: bytes | None, _form: bytes | None, _values: int | None) -> None:
        if threading.get_ident() == self._thread:
            self._heard = True
            self._set(None)  # each call waits for the interpreter, and a file can order one a row

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        with self._one_at_a_time:  # the handler is the process's
            self._thread, self._heard = threading.get_ident(), False
            self._set(self._handler)
            try:
                yield
            finally:
                self._set(None)
                heard = self._heard
        if heard:
            raise CorruptImageError("The image cannot be decoded: it is truncated or damaged. Send the whole file.")


@functools.cache
def _listener() -> _Listener | None:
    try:
        return _Listener()
    except (AttributeError, OSError):  # Pillow hides its libtiff
        return None


def silence() -> None:
    """Remove libtiff's message handlers, once; Pillow still tells that a file is damaged."""
    _listener()


def strict() -> contextlib.AbstractContextManager[None]:
    """In the body, what libtiff reports as an error is one, also where it goes on and invents pixels: in fax.

    Raises:
        CorruptImageError: libtiff reported an error in this thread.
        UnsupportedImageError: Pillow hides its libtiff, so that nobody would hear of it.
    """
    listener = _listener()
    if listener is None:
        raise UnsupportedImageError("This kind of TIFF is not supported: fax compression. Send it as PNG or JPEG.")
    return listener.listening()

"""The bytes of bodies that are under way or wait to be decoded, and of answers, bounded over all requests."""

import contextlib
import io
from collections.abc import Iterator

from service.errors import UploadsFullError


class Uploads:
    """What all bodies, and answers that are not sent yet, hold together; it is bodies that are refused.

    Bytes count when they are here: to announce many costs nothing and holds nothing.

    Args:
        max_bytes: that may be held; a body that is alone is taken whatever its size.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held = 0

    def check(self, size: int, own: int = 0) -> None:
        """Refuse a body, or a piece of it, before it is taken.

        Args:
            size: bytes that it has, by its own account.
            own: bytes that the same body holds already.

        Raises:
            UploadsFullError: there is no room for it now.
        """
        if self.held > own and self.held + size > self._max_bytes:
            raise UploadsFullError()

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count the bytes of an answer while it is sent."""
        self.held += size
        try:
            yield
        finally:
            self.held -= size


class Upload:
    """One body while it grows; a context that gives its bytes up.

    Args:
        uploads: that it counts among.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._file = io.BytesIO()
        self.size = 0

    def check(self, size: int) -> None:
        """Refuse what is to come, before it is taken.

        Args:
            size: bytes of it.

        Raises:
            UploadsFullError: there is no room for it now.
        """
        self._uploads.check(size, self.size)

    def write(self, piece: bytes | memoryview) -> None:
        """Take what has come.

        Raises:
            UploadsFullError: all bodies together hold as much as they may.
        """
        self.check(len(piece))
        self._file.write(piece)
        self.size += len(piece)
        self._uploads.held += len(piece)

    @property
    def content(self) -> bytes:
        """All of it; not copied."""
        return self._file.getvalue()

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_: object) -> None:
        self._uploads.held -= self.size
        self.size = 0
        self._file = io.BytesIO()

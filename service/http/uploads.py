"""The bytes of all bodies until they are decoded, and of all answers until they are sent: counted and bounded."""

import contextlib
import io
from collections.abc import Iterator

from service.errors import UploadsFullError


class Uploads:
    """The bytes that bodies and unsent answers hold together. At the bound bodies are refused, never answers.

    Bytes count when they have come: a client that only announces many holds nothing.

    Args:
        max_bytes: the bound; a body that is alone is taken whatever its size.

    Attributes:
        held: bytes that count now.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held = 0

    def check(self, size: int, own: int = 0) -> None:
        """Refuse bytes that would exceed the limit, before they are held.

        Args:
            size: how many bytes will come.
            own: bytes that the same body holds already.

        Raises:
            UploadsFullError: there is no room for them now.
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
    """One body while it grows; a context at whose end its bytes are freed.

    Args:
        uploads: where its bytes are counted.

    Attributes:
        size: bytes that it holds.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._file = io.BytesIO()
        self.size = 0

    def check(self, size: int) -> None:
        """Refuse bytes before they are held.

        Args:
            size: how many bytes will come.

        Raises:
            UploadsFullError: there is no room for them now.
        """
        self._uploads.check(size, self.size)

    def write(self, piece: bytes | memoryview) -> None:
        """Hold one more piece of the body.

        Raises:
            UploadsFullError: all bodies together hold as much as they may.
        """
        self.check(len(piece))
        self._file.write(piece)
        self.size += len(piece)
        self._uploads.held += len(piece)

    @property
    def content(self) -> bytes:
        """The whole body, without a copy."""
        return self._file.getvalue()

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_: object) -> None:
        self._uploads.held -= self.size
        self.size = 0
        self._file = io.BytesIO()

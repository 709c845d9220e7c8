"""From an open request to the bytes of its image, within limits of size and time.

The bytes of all bodies under way, and of answers that are not sent yet, are bounded together.
"""

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Iterator

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.errors import BodyError, ClientGoneError, DeadlineExceededError, UploadsFullError
from service.http.multipart import Base64, Base64Error, MultipartError, MultipartParser, PartHeaders

FORM_OVERHEAD = 65_536
"""Bytes that a form may hold beside its image."""
PART_OVERHEAD = 256
"""Bytes that each part adds to those beside the image, however little it holds: its headers are slow to parse."""
PIECE = 65_536
"""Bytes of a form that are parsed between two checks of `FORM_OVERHEAD`."""


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


async def read_image(request: Request, upload: Upload, max_bytes: int, seconds: float, deadline: float) -> None:
    """Read the image of a request: the part `image` of a multipart form, else the whole body.

    Args:
        request: whose body was not read yet.
        upload: takes the image, piece by piece as it comes.
        max_bytes: the largest image file that is taken.
        seconds: the time for the whole body to arrive.
        deadline: when the request ends, by `time.monotonic`.

    Raises:
        BodyError: 400 malformed or empty, 408 too slow, 413 too large.
        UploadsFullError: all bodies together hold as much as they may.
        DeadlineExceededError: the deadline passed first.
        ClientGoneError: the client left before the end.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    form = MultipartForm(options.get(b"boundary", b""), upload) if kind == b"multipart/form-data" else None
    limit = max_bytes + (FORM_OVERHEAD if form else 0)
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() and announced.isascii() else 0
    chunks = request.stream()
    left = deadline - time.monotonic()
    try:
        fits = size <= limit
        if fits:
            upload.check(size)
            async with asyncio.timeout(min(seconds, left)):
                fits = await _read(chunks, form or upload, upload, max_bytes, limit)
    except TimeoutError:
        if left < seconds:
            raise DeadlineExceededError() from None
        raise BodyError.too_slow(seconds) from None
    except ClientDisconnect:
        raise ClientGoneError() from None
    if not fits:
        raise BodyError.too_large(max_bytes)
    if form:
        form.end()
    if not upload.size:
        raise BodyError.empty()


async def _read(
    chunks: AsyncIterator[bytes], sink: "MultipartForm | Upload", upload: Upload, most: int, limit: int
) -> bool:
    """Whether the body was read to its end; False as soon as it, or the image in it, is too large."""
    async for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            return False
        sink.write(chunk)
        if upload.size > most:
            return False
    return True


class MultipartForm:
    """A multipart form, parsed as it comes: its first part named `image` goes to the upload, the rest is counted.

    Args:
        boundary: the line between its parts, from the Content-Type header.
        upload: takes the image.

    Raises:
        BodyError: 400, the boundary is missing or too long.
    """

    def __init__(self, boundary: bytes, upload: Upload) -> None:
        self._upload = upload
        self._found = self._wanted = False
        self._base64: Base64 | None = None
        self._overhead = 0
        try:
            self._parser = MultipartParser(boundary)
        except MultipartError as error:
            raise BodyError.malformed_form() from error

    def write(self, chunk: bytes) -> None:
        """Parse one more piece of the body.

        Raises:
            BodyError: 400, the form is malformed or holds too much beside its image.
            UploadsFullError: all bodies together hold as much as they may.
        """
        for start in range(0, len(chunk), PIECE):
            try:
                for part in self._parser.feed(chunk[start : start + PIECE]):
                    if isinstance(part, dict):
                        self._begin(part)
                    else:
                        self._take(part)
            except Base64Error as error:
                raise BodyError.no_base64() from error
            except MultipartError as error:
                raise BodyError.malformed_form() from error
            self._check()

    def end(self) -> None:
        """Check that the form is whole, when the body has ended.

        Raises:
            BodyError: 400, the form is cut short or has no image.
        """
        if not self._parser.ended:
            raise BodyError.cut_form() if self._parser.began else BodyError.malformed_form()
        if not self._found:
            raise BodyError.form_without_image()
        self._end_part()

    def _begin(self, headers: PartHeaders) -> None:
        self._end_part()
        self._overhead += PART_OVERHEAD
        self._check()
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        self._wanted = options.get(b"name") == b"image" and not self._found
        if self._wanted:
            self._found = True
            coding = headers.get(b"content-transfer-encoding", b"").lower() or b"binary"
            if coding not in (b"binary", b"8bit", b"7bit", b"base64"):
                raise BodyError.coded_part(coding.decode("latin-1"))
            self._base64 = Base64() if coding == b"base64" else None

    def _take(self, data: bytes) -> None:
        if not self._wanted:
            self._overhead += len(data)
        elif self._base64:
            self._upload.write(self._base64.decode(data))
        else:
            self._upload.write(data)

    def _check(self) -> None:
        if self._overhead + self._parser.overhead > FORM_OVERHEAD:
            raise BodyError.crowded_form(FORM_OVERHEAD)

    def _end_part(self) -> None:
        if self._base64:
            try:
                self._base64.end()
            except Base64Error as error:
                raise BodyError.no_base64() from error
            self._base64 = None

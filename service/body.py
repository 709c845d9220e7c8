"""From an open request to the bytes of its image, within limits of size and time."""

import asyncio
import time
from collections.abc import AsyncIterator

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.errors import BodyError, ClientGoneError, DeadlineExceededError

FORM_OVERHEAD = 65_536
"""Bytes of a multipart body beside its image."""
PART_OVERHEAD = 256
"""Bytes that a part counts for, whatever it holds: headers are read slowly."""
PIECE = 65_536
"""Bytes of a form that are read before what is beside its image is counted."""
DISCARD_SECONDS = 5.0
DISCARD_FACTOR = 4
"""After a 413 this many times the limit is still read, so that the client sees the answer and not a reset."""


async def read_image(request: Request, max_bytes: int, seconds: float, deadline: float) -> bytes:
    """The image of a request: the part `image` of a multipart form, else the whole body.

    Args:
        request: whose body was not read yet.
        max_bytes: of the image.
        seconds: for the whole body to arrive.
        deadline: of the request, by `time.monotonic`.

    Raises:
        BodyError: 400 malformed or empty, 408 too slow, 413 too large.
        DeadlineExceededError: it passed first.
        ClientGoneError: the client left before the end.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    is_form = kind == b"multipart/form-data"
    limit = max_bytes + (FORM_OVERHEAD if is_form else 0)
    chunks = request.stream()
    left = deadline - time.monotonic()
    try:
        async with asyncio.timeout(min(seconds, left)):
            body = await _read(chunks, limit, request.headers.get("content-length"))
    except TimeoutError:
        if left < seconds:
            raise DeadlineExceededError() from None
        raise BodyError(408, f"The body did not arrive within {seconds:g} s. Send it faster.") from None
    except ClientDisconnect:
        raise ClientGoneError() from None
    if body is not None and is_form:
        body = image_part(body, options.get(b"boundary", b""))
    if body is None or len(body) > max_bytes:
        if body is None:
            await _discard(chunks, DISCARD_FACTOR * limit)
        raise BodyError(
            413, f"The image has more than {max_bytes} bytes. Send a smaller file or raise UPSNET_MAX_BYTES."
        )
    if not body:
        raise BodyError(400, "The body is empty. Send an image, or a form with the file in `image`.")
    return body


async def _read(chunks: AsyncIterator[bytes], limit: int, announced: str | None) -> bytes | None:
    """The whole body; None as soon as it is known to be too large."""
    if announced is not None and announced.isdigit() and int(announced) > limit:
        return None
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


async def _discard(chunks: AsyncIterator[bytes], limit: int) -> None:
    """Read on, up to a bound in bytes and time."""
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            async for chunk in chunks:
                limit -= len(chunk)
                if limit < 0:
                    return
    except (TimeoutError, ClientDisconnect):
        return


def image_part(body: bytes, boundary: bytes) -> bytes:
    """The content of the part named `image`.

    Raises:
        BodyError: 400, the form is malformed or has no such part.
    """
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        for start in range(0, len(body), PIECE):
            parser.write(body[start : start + PIECE])
            if parts.overhead > FORM_OVERHEAD:
                raise BodyError(
                    400, f"The form has more than {FORM_OVERHEAD} bytes beside its image. Send the file alone."
                )
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise BodyError(400, "The form is malformed. Send multipart/form-data with the file in `image`.") from error
    if not parts.ended:
        raise BodyError(400, "The form ends before its last boundary. Send the whole body.")
    if parts.image is None:
        raise BodyError(400, "The form has no part named `image`. Send the file in `image`.")
    return bytes(parts.image)


class _Parts:
    """Keeps the first part named `image`."""

    def __init__(self) -> None:
        self.image: bytearray | None = None
        self.ended = False
        self.overhead = 0
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._wanted = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._wanted = {}, False
        self.overhead += PART_OVERHEAD

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self.overhead += end - start

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self.overhead += end - start

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._wanted = options.get(b"name") == b"image" and self.image is None
        if self._wanted:
            self.image = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted and self.image is not None:
            self.image += data[start:end]
        else:
            self.overhead += end - start

    def _end(self) -> None:
        self.ended = True

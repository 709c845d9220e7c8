"""The grammar of multipart bodies (RFC 2046, section 5.1.1), read as they come.

What stands before the first boundary and behind the last is ignored, blanks behind a boundary are no part of it, and
headers of parts may be folded. Lines end as the first boundary's line does: with CRLF, or with the LF that mail
libraries write.
"""

import binascii
import re
from collections.abc import Iterator

MAX_BOUNDARY = 256
MAX_PADDING = 256
"""Blanks behind a boundary; a line with more is no boundary, so that little is held."""
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(.*)", re.DOTALL)
FOLD = re.compile(rb"\r?\n[ \t]+")

PartHeaders = dict[bytes, bytes]
"""By name in small letters; of two of one name the first."""


class MultipartError(Exception):
    """The body is no multipart."""


class Base64Error(MultipartError):
    """A part is no base64."""


class MultipartParser:
    """Splits a multipart body into parts.

    Args:
        boundary: of the Content-Type header.

    Attributes:
        ended: whether the last boundary was seen.

    Raises:
        MultipartError: the boundary is missing or too long.
    """

    def __init__(self, boundary: bytes) -> None:
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            raise MultipartError(f"a boundary has 1 to {MAX_BOUNDARY} bytes")
        self._boundary = boundary
        self._held = bytearray(b"\r\n")  # a boundary stands on a line of its own: here the very first
        self._line_end = b""  # until there was a boundary
        self._in_headers = False
        self._searched = self._skipped = 0
        self.ended = False
        self._look_for(b"\n", rb"\r?\n")

    @property
    def began(self) -> bool:
        """Whether a boundary was seen that begins a part."""
        return bool(self._line_end)

    @property
    def overhead(self) -> int:
        """Bytes so far that are of no part: the preamble and the headers of parts."""
        return self._skipped + (len(self._held) if self._in_headers or not self.began else 0)

    def feed(self, chunk: bytes) -> Iterator[PartHeaders | bytes]:
        """The headers of each part that begins in this piece of the body, and its bytes behind them.

        Raises:
            MultipartError: the headers of a part are none.
        """
        if self.ended and self.began:
            return  # an epilogue
        self._held += chunk
        while True:
            if self._in_headers:
                headers = self._take_headers()
                if headers is None:
                    return
                yield headers
            near = self._held.find(self._start)  # an image has none, and this looks through it faster
            found = self._delimiter.search(self._held, near) if near >= 0 else None
            size = found.start() if found else self._size_without_delimiter()
            if not self.began:
                self._skipped += size
            elif size:
                yield bytes(self._held[:size])
            if not found:
                del self._held[:size]
                return
            if self._pass(found):
                return

    def _look_for(self, before: bytes, behind: bytes) -> None:
        """From here on a boundary is between these ends of lines; `behind` is a pattern."""
        self._start = before + b"--" + self._boundary
        start, blanks = re.escape(self._start), rb"[ \t]{0,%d}" % MAX_PADDING
        self._delimiter = re.compile(start + rb"(?:(?P<last>--)|" + blanks + rb"(?P<line_end>" + behind + rb"))")
        self._unfinished = re.compile(rb"-?|" + blanks + rb"\r?")

    def _size_without_delimiter(self) -> int:
        """How much of what is held can be no part of a boundary, whatever comes."""
        held, start = self._held, self._start
        at = held.rfind(start, max(0, len(held) - len(start) - MAX_PADDING - 1))
        if at >= 0 and self._unfinished.fullmatch(held, at + len(start)):
            return at
        at = held.rfind(start[:1], max(0, len(held) - len(start) + 1))
        return at if at >= 0 and start.startswith(bytes(held[at:])) else len(held)

    def _pass(self, found: re.Match[bytes]) -> bool:
        """Go behind a boundary; whether it was the last."""
        line_end = found["line_end"]
        if found["last"]:
            del self._held[: found.end()]
            self.ended = True
            # Before the first boundary it is one only if no other follows.
            return self.began
        self.ended = False
        if not self.began:
            self._line_end = bytes(line_end)
            self._look_for(self._line_end, re.escape(self._line_end))
        del self._held[: found.end() - len(line_end)]  # an empty line, and the headers are over
        self._in_headers, self._searched = True, 0
        return False

    def _take_headers(self) -> PartHeaders | None:
        """The headers of a part, when they are whole."""
        end = self._held.find(2 * self._line_end, self._searched)
        if end < 0:
            self._searched = max(0, len(self._held) - 2 * len(self._line_end))
            return None
        block = FOLD.sub(b" ", bytes(self._held[len(self._line_end) : end]))
        headers: PartHeaders = {}
        for line in block.split(self._line_end) if end else ():
            match = HEADER.fullmatch(line)
            if not match:
                raise MultipartError("a line of a part's headers is no header")
            headers.setdefault(match[1].lower(), match[2].strip(b" \t"))
        self._skipped += end
        del self._held[: end + 2 * len(self._line_end)]
        self._in_headers = False
        return headers


class Base64:
    """Decodes base64 as it comes (RFC 2045, section 6.8): mail libraries write a file so into a part."""

    def __init__(self) -> None:
        self._left = b""
        self._padded = False

    def decode(self, data: bytes) -> bytes:
        """The bytes of as many digits as are whole.

        Raises:
            Base64Error: it is no base64.
        """
        digits = self._left + data.translate(None, b" \t\r\n")
        if digits and self._padded:
            raise Base64Error("base64 goes on behind its end")
        whole = len(digits) - len(digits) % 4
        self._left = digits[whole:]
        try:
            decoded = binascii.a2b_base64(digits[:whole], strict_mode=True)
        except binascii.Error as error:
            raise Base64Error(str(error)) from error
        self._padded = digits[:whole].endswith(b"=")
        return decoded

    def end(self) -> None:
        """Check that no digit is missing.

        Raises:
            Base64Error: one is.
        """
        if self._left:
            raise Base64Error("base64 ends too early")

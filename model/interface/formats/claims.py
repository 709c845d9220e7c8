"""How much work a file asks for before its first pixel, counted without doing it.

Decoders bound a picture by its size and not by the number of its parts: a JPEG of 200 kB can order 20 000 passes over
36 megapixels, and millions of empty parts cost more memory than they have bytes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from itertools import accumulate

MAX_PARTS = 66_000
"""Most segments, chunks or blocks before the pixels, and most strips or tiles. A PNG of 20 MB in the usual chunks of
8 kB has 2 500; the tallest TIFF, with one row in each strip, has 65 535."""
MAX_SCANS = 100
"""Most passes over a JPEG. Encoders write about ten."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
SCAN = re.compile(rb"\xff\xda")  # three times as fast as `bytes.count`
START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1
_ALONE = (0x01, 0xD8)
"""Markers without a length: a temporary one, and the start of an image."""


def excess(content: bytes) -> str | None:
    """Why a file asks for too much work; None for an ordinary one."""
    for signature, parts in _PARTS.items():
        if content.startswith(signature) and _exceeds(MAX_PARTS, parts(content)):
            return f"it has more than {MAX_PARTS} parts before its pixels"
    # The first count is cheap and includes bytes that only look like markers.
    if content.startswith(b"\xff\xd8\xff") and _exceeds(MAX_SCANS, (1 for _ in SCAN.finditer(content))):
        scans = (1 for marker, *_ in jpeg_markers(content) if marker == START_OF_SCAN)
        if _exceeds(MAX_SCANS, scans):
            return f"it has more than {MAX_SCANS} scans"
    return None


def _exceeds(most: int, counts: Iterator[int]) -> bool:
    return any(total > most for total in accumulate(counts))


def jpeg_markers(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Each marker up to the end of the first picture: its code, the bytes skipped before it, and its end."""
    place = 2
    while found := _MARKER.search(content, place):
        marker, behind = content[found.end() - 1], found.end()
        yield marker, found.start() - place, behind
        if marker == END_OF_IMAGE or behind + 2 > len(content):
            return
        place = behind if marker in _ALONE else behind + max(2, int.from_bytes(content[behind : behind + 2]))


def _jpeg_segments(content: bytes) -> Iterator[int]:
    """Parts before the first scan: segments, and fill bytes."""
    for marker, filled, _ in jpeg_markers(content):
        yield 1 + filled
        if marker == START_OF_SCAN:
            return


def _png_chunks(content: bytes) -> Iterator[int]:
    place = 8
    while place + 12 <= len(content):
        yield 1
        place += 12 + struct.unpack_from(">I", content, place)[0]


def _gif_blocks(content: bytes) -> Iterator[int]:
    """Parts before the first frame: the sub-blocks of all extensions."""
    if len(content) < 13:
        return
    place = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    while place + 2 < len(content) and content[place] != ord(","):
        yield 1
        if content[place] != ord("!"):  # decoders skip other bytes
            place += 1
            continue
        place += 2
        while place < len(content) and content[place]:
            yield 1
            place += content[place] + 1
        place += 1


_PARTS: dict[bytes, Callable[[bytes], Iterator[int]]] = {
    b"\xff\xd8\xff": _jpeg_segments,
    b"\x89PNG\r\n\x1a\n": _png_chunks,
    b"GIF8": _gif_blocks,
}

"""How much work a file asks for before its first pixel, counted without doing it.

Decoders bound a picture by its size and not by the number of its parts: a JPEG of 200 kB can order 20 000 passes over
36 megapixels, and millions of empty parts cost more memory than they have bytes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice, repeat

MAX_PARTS = 66_000
"""Segments, chunks or blocks before the pixels; strips or tiles of them. A PNG of 20 MB in the usual chunks of 8 kB has
2 500; the tallest TIFF, a row a strip, 65 535."""
TAG_PARTS = 16
"""That a TIFF's tag counts for. Cameras write a hundred tags."""
MAX_SCANS = 100
"""Passes over a JPEG. Encoders write 10 or so."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
_SCAN = re.compile(rb"\xff\xda")  # found in a third of the time that `bytes.count` takes
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def excess(content: bytes) -> str | None:
    """Why a file asks for too much; None where it does not, or is of a format that cannot."""
    for signature, parts in _PARTS.items():
        if content.startswith(signature) and _at_least(MAX_PARTS + 1, parts(content)):
            return f"it has more than {MAX_PARTS} parts before its pixels"
    if content.startswith(b"\xff\xd8\xff") and _at_least(MAX_SCANS + 1, _SCAN.finditer(content)):  # or there cannot be
        scans = (marker for marker, _ in _jpeg_markers(content) if marker == _START_OF_SCAN)
        if _at_least(MAX_SCANS + 1, scans):
            return f"it has more than {MAX_SCANS} scans"
    return None


def _at_least(count: int, found: Iterator[object]) -> bool:
    return sum(1 for _ in islice(found, count)) == count


def _jpeg_markers(content: bytes) -> Iterator[tuple[int, int]]:
    """Markers up to the end of the first picture, and how many bytes were passed over to find each."""
    place = 2
    while found := _MARKER.search(content, place):
        marker = content[found.end() - 1]
        yield marker, found.start() - place
        if marker == _END_OF_IMAGE or found.end() + 2 > len(content):
            return
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2])


def _jpeg_segments(content: bytes) -> Iterator[int]:
    """Markers before the first scan, and fill bytes, which Pillow reads one by one."""
    for marker, filled in _jpeg_markers(content):
        yield from repeat(marker, 1 + filled)
        if marker == _START_OF_SCAN:
            return


def _png_chunks(content: bytes) -> Iterator[int]:
    place = 8
    while place + 12 <= len(content):
        yield place
        place += 12 + struct.unpack_from(">I", content, place)[0]


def _gif_blocks(content: bytes) -> Iterator[int]:
    """Sub-blocks of all extensions before the first frame."""
    if len(content) < 13:
        return
    place = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    while place + 2 < len(content) and content[place] != ord(","):
        yield place
        if content[place] != ord("!"):  # decoders pass over other bytes
            place += 1
            continue
        place += 2
        while place < len(content) and content[place]:
            yield place
            place += content[place] + 1
        place += 1


def _tiff_parts(content: bytes) -> Iterator[int]:
    """Strips or tiles, for each of which Pillow makes an object, and tags, which it reads slowly."""
    order = "<" if content[:2] == b"II" else ">"
    large = content[2:4] in (b"+\0", b"\0+")  # BigTIFF
    at, offset, number, entry = (8, "Q", "Q", "HHQ") if large else (4, "I", "H", "HHI")

    def read(form: str, place: int) -> tuple[int, ...]:
        end = place + struct.calcsize(order + form)
        return struct.unpack_from(order + form, content, place) if end <= len(content) else (0,) * len(form)

    place, step = read(offset, at)[0], 20 if large else 12
    tags = read(number, place)[0]
    yield from repeat(place, min(TAG_PARTS * tags, MAX_PARTS + 1))
    for index in range(min(tags, MAX_PARTS)):
        tag, _, count = read(entry, place + struct.calcsize(order + number) + step * index)
        if tag in (273, 324):  # StripOffsets, TileOffsets
            yield from repeat(index, min(count, MAX_PARTS + 1))


_PARTS: dict[bytes, Callable[[bytes], Iterator[int]]] = {
    b"\xff\xd8\xff": _jpeg_segments,
    b"\x89PNG\r\n\x1a\n": _png_chunks,
    b"GIF8": _gif_blocks,
    b"II*\0": _tiff_parts,
    b"MM\0*": _tiff_parts,
    b"II+\0": _tiff_parts,
    b"MM\0+": _tiff_parts,
}

"""How much work a file asks for before its first pixel, counted without doing it.

Decoders bound a picture by its size and not by the number of its parts: a JPEG of 200 kB can order 20 000 passes over
36 megapixels, and millions of empty parts cost more memory than they have bytes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from itertools import accumulate

TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
"""How a file may begin that Pillow takes for TIFF."""
MAX_PARTS = 66_000
"""Segments, chunks or blocks before the pixels; strips or tiles of them. A PNG of 20 MB in the usual chunks of 8 kB has
2 500; the tallest TIFF, a row a strip, 65 535."""
TAG_PARTS, FRACTION_PARTS = 16, 16
"""That a TIFF's tag counts for, and each fraction in one. Cameras write a hundred tags."""
EXIF_PARTS = MAX_PARTS // 16
"""That a JPEG's segment of Exif counts for: Pillow copies all those before it. Cameras write one."""
MAX_SCANS = 100
"""Passes over a JPEG. Encoders write 10 or so."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
_SCAN = re.compile(rb"\xff\xda")  # found in a third of the time that `bytes.count` takes
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_BYTES, _FRACTIONS, _WHOLE = (1, 2, 7), (5, 10), (3, 4, 16)
"""Types of a TIFF's tags: those that stay bytes, pairs of numbers, and whole ones as sizes are."""
_OFFSETS, _SIZES, _TRANSFER = (273, 324), (279, 325), 301
"""Tags: where strips and tiles are, how many bytes each has, and a table that nobody reads."""


def excess(content: bytes) -> str | None:
    """Why a file, or a block of Exif, asks for too much; None where it does not, or is of a format that cannot."""
    for signature, parts in _PARTS.items():
        if content.startswith(signature) and _exceeds(MAX_PARTS, parts(content)):
            return f"it has more than {MAX_PARTS} parts before its pixels"
    if content.startswith(b"\xff\xd8\xff") and _exceeds(MAX_SCANS, (1 for _ in _SCAN.finditer(content))):
        scans = (1 for marker, *_ in _jpeg_markers(content) if marker == _START_OF_SCAN)  # or bytes like them
        if _exceeds(MAX_SCANS, scans):
            return f"it has more than {MAX_SCANS} scans"
    return None


def _exceeds(most: int, counts: Iterator[int]) -> bool:
    return any(total > most for total in accumulate(counts))


def _jpeg_markers(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Markers up to the end of the first picture, how many bytes were passed over to find each, and what is behind."""
    place = 2
    while found := _MARKER.search(content, place):
        marker, behind = content[found.end() - 1], found.end()
        yield marker, found.start() - place, behind
        if marker == _END_OF_IMAGE or behind + 2 > len(content):
            return
        place = behind + int.from_bytes(content[behind : behind + 2])


def _jpeg_segments(content: bytes) -> Iterator[int]:
    """Segments before the first scan, fill bytes, which Pillow reads one by one, and all that Exif holds."""
    exif = []
    for marker, filled, behind in _jpeg_markers(content):
        yield 1 + filled
        if marker == _START_OF_SCAN:
            break
        if marker == _APP1 and content.startswith(b"Exif\0\0", behind + 2):
            yield EXIF_PARTS
            exif.append(content[behind + 8 : behind + int.from_bytes(content[behind : behind + 2])])
    yield from _tiff_parts(b"".join(exif))


def _png_chunks(content: bytes) -> Iterator[int]:
    place = 8
    while place + 12 <= len(content):
        yield 1
        place += 12 + struct.unpack_from(">I", content, place)[0]


def _gif_blocks(content: bytes) -> Iterator[int]:
    """Sub-blocks of all extensions before the first frame."""
    if len(content) < 13:
        return
    place = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    while place + 2 < len(content) and content[place] != ord(","):
        yield 1
        if content[place] != ord("!"):  # decoders pass over other bytes
            place += 1
            continue
        place += 2
        while place < len(content) and content[place]:
            yield 1
            place += content[place] + 1
        place += 1


def _tiff_parts(content: bytes) -> Iterator[int]:
    """Of the first directory; of a big-endian BigTIFF both ways, as Pillow takes it for an ordinary file."""
    order = ">" if content[:2] == b"MM" else "<"
    if content[2:3] != b"+":
        yield from _tags(content, order, 4, "I", "H", "HHI", 12)
    if b"+" in content[2:4]:
        yield from _tags(content, order, 8, "Q", "Q", "HHQ", 20)


def _tags(content: bytes, order: str, at: int, offset: str, number: str, entry: str, step: int) -> Iterator[int]:
    """Tags, which Pillow reads slowly, numbers in them, and strips or tiles, for each of which it makes an object."""

    def read(form: str, place: int) -> tuple[int, ...]:
        end = place + struct.calcsize(order + form)
        return struct.unpack_from(order + form, content, place) if end <= len(content) else (0,) * len(form)

    place = read(offset, at)[0]
    tags = read(number, place)[0]
    yield TAG_PARTS * tags
    for index in range(tags):
        tag, kind, count = read(entry, place + struct.calcsize(order + number) + step * index)
        if tag in _SIZES and kind in _WHOLE:
            yield max(0, count - MAX_PARTS)
        elif tag in _OFFSETS or (kind not in _BYTES and tag != _TRANSFER):
            yield count * (FRACTION_PARTS if kind in _FRACTIONS else 1)


_PARTS: dict[bytes, Callable[[bytes], Iterator[int]]] = {
    b"\xff\xd8\xff": _jpeg_segments,
    b"\x89PNG\r\n\x1a\n": _png_chunks,
    b"GIF8": _gif_blocks,
    **dict.fromkeys(TIFF, _tiff_parts),
}

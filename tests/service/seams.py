"""Where the parts of an image file begin: markers, chunks, blocks, headers, directory entries."""

import struct
from collections.abc import Callable, Iterator


def of(content: bytes) -> list[int]:
    """Structural points of a file, as far as it can be walked; 0 at least."""
    for signature, walk in WALKS.items():
        if content.startswith(signature):
            return sorted({0, len(signature), *(place for place in walk(content) if place <= len(content))})
    return [0]


def jpeg(content: bytes) -> Iterator[int]:
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        yield from (place, place + 2, place + 4)
        place += 2 + struct.unpack_from(">H", content, place + 2)[0]
    yield from (place, place + 1, len(content) - 2)


def png(content: bytes) -> Iterator[int]:
    place = 8
    while place + 12 <= len(content):
        length = struct.unpack_from(">I", content, place)[0]
        yield from (place, place + 4, place + 8, place + 8 + length // 2, place + 8 + length)
        place += 12 + length


def webp(content: bytes) -> Iterator[int]:
    place = 12
    while place + 8 <= len(content):
        length = struct.unpack_from("<I", content, place + 4)[0]
        yield from (place, place + 4, place + 8, place + 8 + length // 2)
        place += 8 + length + length % 2


def gif(content: bytes) -> Iterator[int]:
    """Header, screen, palette, the start of each extension and frame, each sub-block."""
    if len(content) < 13:
        return
    place = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    yield from (10, 13, place)
    while place + 10 < len(content) and content[place] in b"!,":
        yield place
        if content[place] == ord("!"):
            place += 2
        else:
            flags = content[place + 9]
            place += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        while place < len(content) and content[place]:
            yield place
            place += content[place] + 1
        place += 1


def bmp(content: bytes) -> Iterator[int]:
    yield from (10, 14, 18, 22, 26, 28, 30, 34, 46, 54)
    if len(content) >= 14:
        pixels = struct.unpack_from("<I", content, 10)[0]
        yield from (pixels, (pixels + len(content)) // 2)


def tiff(content: bytes) -> Iterator[int]:
    if len(content) < 8:
        return
    order = "<" if content[:2] == b"II" else ">"
    place = struct.unpack_from(order + "I", content, 4)[0]
    yield from (4, place, len(content) // 2)
    if place + 2 <= len(content):
        entries = struct.unpack_from(order + "H", content, place)[0]
        yield from range(place + 2, min(place + 2 + 12 * entries, len(content)), 12)


SEAMS: dict[str, Callable[[bytes], Iterator[int]]] = {
    "JPEG": jpeg,
    "PNG": png,
    "WEBP": webp,
    "GIF": gif,
    "BMP": bmp,
    "TIFF": tiff,
}
WALKS: dict[bytes, Callable[[bytes], Iterator[int]]] = {
    b"\xff\xd8\xff": jpeg,
    b"\x89PNG\r\n\x1a\n": png,
    b"RIFF": webp,
    b"GIF8": gif,
    b"BM": bmp,
    b"II*\0": tiff,
    b"MM\0*": tiff,
}

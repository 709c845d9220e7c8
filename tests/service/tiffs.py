"""TIFF files, tag by tag."""

import struct
import zlib

TILED = [(256, 4, 1000), (257, 4, 1000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), (322, 4, 1), (323, 4, 1)]
"""Of a grey picture of a million pixels, in tiles of one."""


def tiff(
    tags: list[tuple[int, int, int]], pixels: bytes, following: int = 0, counts: dict[int, int] | None = None
) -> bytes:
    """A little-endian file: header, one directory of numbers, or of the places of many, then the pixels."""
    counts = counts or {}
    entries = b"".join(struct.pack("<HHII", tag, kind, counts.get(tag, 1), value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + pixels


def tiff_of_numbers(start: bytes, tag: int, kind: int, count: int) -> bytes:
    """A small grey picture, of any of Pillow's signatures, or Exif: one tag has so many numbers, and they are there."""
    order = "<" if start[:2] == b"II" else ">"
    tags = {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
    place = 8 + 2 + 12 * len(tags | {tag: 0}) + 4
    tags[tag] = (kind, count, place)
    if order == ">":
        tags = {name: (kind, count, value << 16 if kind == 3 else value) for name, (kind, count, value) in tags.items()}
    entries = b"".join(struct.pack(order + "HHII", name, *rest) for name, rest in sorted(tags.items()))
    numbers = struct.pack(order + "I", 8) * (count * {3: 1, 4: 1, 5: 2}[kind])
    return start + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4) + numbers


def tiff_tile(width: int, height: int, side: int) -> bytes:
    """One deflated tile of `side` x `side` around a small image."""
    packer = zlib.compressobj(9)
    row = bytes(side)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, side), (323, 4, side), (324, 4, 8 + 2 + 12 * 10 + 4), (325, 4, len(pixels))]
    return tiff(tags, pixels)

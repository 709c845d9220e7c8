"""PNG to RGB: what the picture needs is read, and nothing else of the file is looked at."""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from model.interface.formats.errors import damaged, damaged_header, unsupported
from model.interface.formats.exif import orientation
from model.interface.formats.opened import Opened
from model.interface.formats.rgb import BAND_PIXELS, to_rgb
from model.interface.panoptic import Pixels

try:
    from zlib_ng import zlib_ng as checksum  # twenty times as fast
except ImportError:  # pragma: no cover -- no wheel for this platform
    import zlib as checksum  # type: ignore[no-redef]

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_MODES = {
    (_GREY, 1): ("1", "1"),
    (_GREY, 2): ("L", "L;2"),
    (_GREY, 4): ("L", "L;4"),
    (_GREY, 8): ("L", "L"),
    (_GREY, 16): ("I;16", "I;16B"),
    (_RGB, 8): ("RGB", "RGB"),
    (_RGB, 16): ("RGB", "RGB;16B"),
    (_PALETTE, 1): ("P", "P;1"),
    (_PALETTE, 2): ("P", "P;2"),
    (_PALETTE, 4): ("P", "P;4"),
    (_PALETTE, 8): ("P", "P"),
    (_GREY_ALPHA, 8): ("LA", "LA"),
    (_GREY_ALPHA, 16): ("RGBA", "RGBA"),  # two channels of two bytes
    (_RGB_ALPHA, 8): ("RGBA", "RGBA"),
    (_RGB_ALPHA, 16): ("RGBA", "RGBA;16B"),
}
"""Pillow's modes, in memory and as stored, by the colour type and the bits of a channel: all that PNG knows."""
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
"""Pillow keeps the first byte of two; where it takes them for little-endian, the second."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass of an interlaced picture, and the steps between them."""
PIECE = 1 << 16
_UNLIKELY: dict[str, int | tuple[int, ...]] = {
    "RGB": (1, 254, 77),
    "RGBA": (1, 254, 77, 129),
    "I;16": 0x4DFE,
    "LA": (77, 254),
    "1": 255,
}


class Header(NamedTuple):
    """The chunk IHDR."""

    width: int
    height: int
    bits: int
    colours: int
    compression: int
    filters: int
    interlaced: int


class Parts(NamedTuple):
    """What the picture needs: its header, the pieces of its pixels, its palette; and EXIF."""

    header: Header
    pixels: list[memoryview]
    palette: memoryview
    exif: memoryview


def open_png(content: bytes) -> Opened:
    """A PNG; of an animated one the still picture, which is what decoders that know no animations show.

    Texts, profiles, times and the like are neither inflated nor checked: they refuse no picture. The chunks of the
    pixels must have their checksums, and an end is not missed where all pixels are there.

    Raises:
        UnsupportedImageError: it needs what is not in the standard.
        CorruptImageError: it is damaged.
    """
    parts = _parts(content)
    header = parts.header
    return Opened(header.height, header.width, partial(_pixels, parts), orientation(parts.exif))


def _parts(content: bytes) -> Parts:
    header, pixels, palette, exif = None, [], memoryview(b""), memoryview(b"")
    for kind, chunk, sound in _chunks(content):
        if kind == b"CgBI":
            raise unsupported("PNG", "Apple's own form for iOS (CgBI)")
        if header is None:
            if kind != b"IHDR" or not sound() or len(chunk) != 13:
                break
            header = Header(*struct.unpack(">IIBBBBB", chunk))
        elif kind == b"IDAT":
            _require(sound())
            pixels.append(chunk)
        elif kind == b"PLTE" and header.colours == _PALETTE:  # in others a hint
            _require(sound() and not palette and not pixels and len(chunk) % 3 == 0)
            palette = chunk
        elif kind == b"eXIf":
            exif = exif if exif or not sound() else chunk
        elif kind == b"IEND" or (pixels and kind == bytes(4)):  # a lacking end may be filled up with zeros
            break
        elif not kind[0] & 0x20 and kind != b"PLTE":
            _require(kind.isalpha() and kind != b"IHDR" and sound())
            raise unsupported("PNG", f"it needs what the standard does not know ({kind.decode('ascii')})")
    if header is None or (header.colours, header.bits) not in _MODES or header[4:6] != (0, 0) or header.interlaced > 1:
        raise damaged_header()
    return Parts(header, pixels, palette, exif)


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, "partial[bool]"]]:
    """Kind and content of each chunk, and what tells whether it is as it was written."""
    view, place = memoryview(content), 8
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        end = place + 8 + size
        yield kind, view[place + 8 : end], partial(_is_sound, view[place + 4 : end], view[end : end + 4])
        place = end + 4


def _is_sound(checked: memoryview, wanted: memoryview) -> bool:
    """Whether a chunk has its checksum, or is cut by the end of the file: then its pixels tell what it lacks."""
    return len(wanted) < 4 or checksum.crc32(checked) == int.from_bytes(wanted)


def _require(sound: bool) -> None:
    if not sound:
        raise damaged()


def _pixels(parts: Parts) -> Pixels:
    header = parts.header
    _require(len(parts.palette) > 0 or header.colours != _PALETTE)
    mode, stored = _MODES[header.colours, header.bits]
    image = _unpacked(parts, mode, stored)
    if header.colours == _PALETTE:
        image.putpalette(bytes(parts.palette[: 3 << header.bits]), "RGB")
    if (header.colours, header.bits) == (_GREY_ALPHA, 16):
        return _grey(image)
    if stored in _LOW_BYTES:
        return _divided(to_rgb(image), to_rgb(_unpacked(parts, mode, _LOW_BYTES[stored])))
    return to_rgb(image)


def _grey(image: Image.Image) -> Pixels:
    """(H, W, 3) of 16 bits of grey and alpha, which Pillow holds as four channels; in bands, as `to_rgb`."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = np.array(image.crop((0, top, image.width, bottom)))
        pixels[top:bottom] = _divided(band[:, :, 0], band[:, :, 1])[:, :, None]
    return pixels


def _unpacked(parts: Parts, mode: str, stored: str) -> Image.Image:
    """The picture, all of it: Pillow is silent where the packed pixels end early, at the end of a row."""
    header = parts.header
    image = Image.new(mode, (header.width, header.height), None)  # not filled: every pixel is written below
    last = header.height - 1 - (header.height % 2 if header.interlaced else 0)
    row = (0, max(last, 0), header.width, max(last, 0) + 1)
    image.paste(_UNLIKELY.get(mode, 77), row)
    before = image.crop(row).tobytes()
    decoder = Image._getdecoder(mode, "zip", (stored, header.interlaced))
    decoder.setimage(image.im, (0, 0, *image.size))  # `Image.frombytes` would need the pieces as one, in new memory
    read, error = 0, 0
    for piece in _pieces(parts.pixels):
        read, error = decoder.decode(piece)
        if read < 0:
            break
    _require(read < 0 and not error)
    if last < 0 or image.crop(row).tobytes() == before:
        _require(_inflated(parts.pixels) >= _unpacked_size(header))
    return image


def _pieces(chunks: list[memoryview]) -> Iterator[memoryview]:
    """The same bytes in pieces that a core's cache holds."""
    for chunk in chunks:
        for place in range(0, len(chunk), PIECE):
            yield chunk[place : place + PIECE]


def _unpacked_size(header: Header) -> int:
    """Bytes of all rows, each with the number of its filter."""
    passes = _PASSES if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, step, jump in passes:
        columns, rows = -(-(header.width - left) // step), -(-(header.height - top) // jump)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * header.bits * _CHANNELS[header.colours] + 7) // 8)
    return total


def _inflated(chunks: list[memoryview]) -> int:
    """How many bytes come of packed ones, a megabyte in memory at a time."""
    unpacker, total = zlib.decompressobj(), 0
    for piece in _pieces(chunks):
        rest = bytes(piece)
        while rest and not unpacker.eof:
            total += len(unpacker.decompress(rest, 1 << 20))
            rest = unpacker.unconsumed_tail
    return total


def _divided(high: Pixels, low: Pixels) -> Pixels:
    """Numbers of 16 bits divided by 257, rounded; written over their high bytes.

    256 h + l = 257 h + (l - h), and l - h alone needs rounding: to -1, 0 or 1.
    """
    rows = max(1, BAND_PIXELS // high.shape[1])
    for top in range(0, len(high), rows):
        h, l = high[top : top + rows], low[top : top + rows]  # noqa: E741
        rest = l.astype(np.int16) - h
        high[top : top + rows] = h + (rest > 128) - (rest < -128)
    return high

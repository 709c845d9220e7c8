"""GIF to RGB: the first picture, on its screen."""

import struct
from functools import partial
from typing import NamedTuple

from PIL import Image

from model.interface.formats.errors import CorruptImageError, damaged_header
from model.interface.formats.opened import Opened
from model.interface.formats.rgb import to_rgb
from model.interface.panoptic import Pixels


class Parts(NamedTuple):
    """What the first picture needs."""

    height: int
    width: int
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the picture on the screen."""
    interlaced: bool
    palette: bytes
    background: int
    """The index of the transparent colour, or 0: where the picture does not cover the screen."""
    bits: int
    pixels: memoryview


def open_gif(content: bytes) -> Opened:
    """A GIF, or the first picture of an animated one. Comments and what applications wrote are skipped unread.

    Raises:
        CorruptImageError: there is no picture.
    """
    try:
        parts = _parts(content)
    except (IndexError, struct.error) as error:
        raise damaged_header() from error
    return Opened(parts.height, parts.width, partial(_pixels, parts))


def _parts(content: bytes) -> Parts:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    place = 13 + _palette_size(flags)
    palette, background = content[13:place], 0
    while content[place] != ord(","):
        if content[place] == ord(";"):
            raise CorruptImageError("The image is damaged: it has no picture. Send the whole file.")
        if content[place] == ord("!"):
            size = content[place + 2]
            if content[place + 1] == 0xF9 and size >= 4 and content[place + 3] & 1:
                background = content[place + 6]
            place += 2
            while content[place]:
                place += content[place] + 1
        place += 1  # decoders skip bytes of no meaning
    left, top, columns, rows, flags = struct.unpack_from("<HHHHB", content, place + 1)
    place += 10
    palette = content[place : place + _palette_size(flags)] or palette
    place += _palette_size(flags)
    box = left, top, left + columns, top + rows
    pixels = memoryview(content)[place + 1 :]
    height, width = max(height, box[3]), max(width, box[2])
    return Parts(height, width, box, bool(flags & 0x40), palette, background, content[place], pixels)


def _palette_size(flags: int) -> int:
    """Bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _pixels(parts: Parts) -> Pixels:
    left, top, right, bottom = parts.box
    picture = Image.new("P", (right - left, bottom - top), parts.background)
    picture.frombytes(parts.pixels, "gif", parts.bits, parts.interlaced, -1)
    image = picture
    if parts.box != (0, 0, parts.width, parts.height):
        image = Image.new("P", (parts.width, parts.height), parts.background)
        image.paste(picture, (left, top))
    image.putpalette(parts.palette or bytes(i for i in range(256) for _ in range(3)), "RGB")
    return to_rgb(image)

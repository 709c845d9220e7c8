"""BMP to RGB: every kind that keeps its pixels as numbers or runs, whatever its masks and headers."""

import struct
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.interface.formats.errors import damaged, damaged_header, unsupported
from model.interface.formats.opened import Opened
from model.interface.formats.rgb import BAND_PIXELS
from model.interface.panoptic import Pixels

_RAW, _RLE8, _RLE4, _MASKS, _JPEG, _PNG, _ALPHA_MASKS = range(7)
_OTHERS = {_JPEG: "a JPEG inside", _PNG: "a PNG inside", 11: "CMYK", 12: "CMYK", 13: "CMYK"}
_OS2 = {3: "compressed as a fax (Huffman)", 4: "run lengths of 24 bits"}
"""What OS/2's headers call otherwise."""
_DEPTHS = {
    _RAW: (1, 2, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _MASKS: (16, 24, 32),
    _ALPHA_MASKS: (16, 24, 32),
}
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}
RUN_WORK = 16
"""Pixels that take as long as a byte of run lengths, which Python reads."""


class Header(NamedTuple):
    """What the two headers say, and where the pixels begin."""

    width: int
    height: int
    upwards: bool
    bits: int
    compression: int
    masks: tuple[int, ...]
    colours: int
    palette: int
    """Where the palette begins."""
    entry: int
    """Bytes of each of its colours."""
    pixels: int
    """Where the pixels begin."""

    @property
    def row(self) -> int:
        """Bytes of a row, without what fills it up."""
        return (self.width * self.bits + 7) // 8

    @property
    def stride(self) -> int:
        """Bytes from a row to the next."""
        return (self.row + 3) // 4 * 4


def open_bmp(content: bytes) -> Opened:
    """A BMP. The sizes of file and pixels that it says are not looked at.

    Raises:
        UnsupportedImageError: it is of a rare kind.
        CorruptImageError: its header is cut short.
    """
    header = _header(content)
    pixels, passes = max(1, header.height * header.width), 1
    if header.compression in (_RLE8, _RLE4):
        passes += RUN_WORK * len(content) // pixels
    return Opened(header.height, header.width, partial(_pixels, content, header), passes=passes)


def _header(content: bytes) -> Header:
    size = int.from_bytes(content[14:18], "little")
    if len(content) < 14 + size:
        raise damaged_header()
    compression = colours = 0
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
    else:  # OS/2's may end anywhere; what lacks is zero
        fields = content[18 : 14 + min(size, 40)].ljust(36, b"\0")
        width, height, _, bits, compression, _, _, _, colours, _ = struct.unpack("<iiHHIIiiII", fields)
    if kind := _unsupported(size, bits, compression):
        raise unsupported("BMP", kind)
    palette = 14 + size
    masks: tuple[int, ...] = _USUAL_MASKS.get(bits, ())
    if compression in (_MASKS, _ALPHA_MASKS):
        masks = _masks(content, bits) or masks
        palette += {_MASKS: 12, _ALPHA_MASKS: 16}[compression] if size == 40 else 0
    entry, colours = 3 if size == 12 else 4, 0 if bits > 8 else min(colours or 1 << bits, 1 << 16)
    header = Header(width, abs(height), height > 0, bits, compression, masks, colours, palette, entry, 0)
    return header._replace(pixels=_place(content, header))


def _unsupported(size: int, bits: int, compression: int) -> str | None:
    """The name of the kind, where it is none that is decoded."""
    if 12 < size < 40 or size == 64:
        if compression in _OS2:
            return _OS2[compression]
    elif compression in _OTHERS:
        return _OTHERS[compression]
    if bits == 64 and compression == _RAW:
        return "64 bits a pixel"
    if bits not in _DEPTHS.get(compression, ()):
        raise damaged_header()
    return None


def _masks(content: bytes, bits: int) -> tuple[int, ...] | None:
    """The bits of red, green and blue in a pixel; None where all are zero, which means the usual ones."""
    if len(content) < 66:
        raise damaged_header()
    masks = tuple(mask & (1 << bits) - 1 for mask in struct.unpack_from("<III", content, 54))
    if any(mask & (mask + (mask & -mask)) for mask in masks):
        raise unsupported("BMP", "colours whose bits are apart")
    red, green, blue = masks
    if red & green or green & blue or blue & red:
        raise unsupported("BMP", "colours that share bits")
    return masks if any(masks) else None


def _place(content: bytes, header: Header) -> int:
    """Where the pixels begin: where the header says, or behind the palette if only from there the file holds them."""
    said = int.from_bytes(content[10:14], "little")
    behind = header.palette + header.entry * header.colours
    if header.compression in (_RLE8, _RLE4):
        return said if header.palette <= said < len(content) else behind
    size = header.stride * header.height
    whole = range(size - header.stride + header.row, size + 1)  # the last row may lack what fills it up
    if said < header.palette or (len(content) - said < whole[0] and len(content) - behind in whole):
        return behind
    return said


def _pixels(content: bytes, header: Header) -> Pixels:
    if header.compression in (_RLE8, _RLE4):
        indices = _runs(content, header)
        lines = np.frombuffer(indices, np.uint8).reshape(header.height, header.width)
    else:
        lines = _lines(content, header)
    lines = lines[::-1] if header.upwards else lines
    palette = _palette(content, header)
    pixels = np.empty((header.height, header.width, 3), np.uint8)
    band = max(1, BAND_PIXELS // header.width)
    for top in range(0, header.height, band):
        some, into = lines[top : top + band], pixels[top : top + band]
        if header.compression in (_RLE8, _RLE4):
            into[:] = palette[some]
        elif header.bits <= 8:
            into[:] = palette[_indices(some, header)]
        else:
            _unmask(some, header, into)
    return pixels


def _lines(content: bytes, header: Header) -> npt.NDArray[np.uint8]:
    """(H, bytes of a row), as stored. No copy but of a file whose last row is not filled up."""
    whole = header.stride * header.height
    lacking = header.pixels + whole - len(content)
    if lacking > header.stride - header.row:
        raise damaged()
    if lacking > 0:
        content = content[header.pixels :] + bytes(lacking)
    stored = np.frombuffer(content, np.uint8, whole, 0 if lacking > 0 else header.pixels)
    return stored.reshape(header.height, header.stride)[:, : header.row]


def _palette(content: bytes, header: Header) -> Pixels:
    """(256, 3) RGB; black beyond the colours that there are, as browsers show it."""
    end = header.palette + header.entry * min(header.colours, 256)
    if header.pixels >= header.palette:
        end = min(end, header.pixels)
    stored = np.frombuffer(content[header.palette : end], np.uint8)
    stored = stored[: len(stored) // header.entry * header.entry].reshape(-1, header.entry)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(stored)] = stored[:, 2::-1]
    return palette


def _indices(lines: npt.NDArray[np.uint8], header: Header) -> npt.NDArray[np.uint8]:
    """(H, W) of the bytes of rows in which a pixel has 1 to 8 bits, the first the highest."""
    if header.bits == 8:
        return lines
    shifts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)
    split = lines[:, :, None] >> shifts & np.uint8((1 << header.bits) - 1)
    return split.reshape(len(lines), -1)[:, : header.width]


def _unmask(lines: npt.NDArray[np.uint8], header: Header, into: Pixels) -> None:
    """Write the colours of pixels that are numbers of 16 to 32 bits."""
    size = header.bits // 8
    stored = _apart(lines, size)
    numbers: npt.NDArray[np.uint32] | None = None
    for channel, mask in enumerate(header.masks):
        shift = (mask & -mask).bit_length() - 1
        if mask and mask >> shift == 255 and shift % 8 == 0:
            into[:, :, channel] = stored[:, :, shift // 8]
            continue
        if numbers is None:
            numbers = np.zeros(stored.shape[:2], np.uint32)
            for place in range(size):
                numbers |= stored[:, :, place].astype(np.uint32) << np.uint32(8 * place)
        into[:, :, channel] = _scaled((numbers & np.uint32(mask)) >> np.uint32(max(shift, 0)), mask >> max(shift, 0))


def _apart(lines: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Rows with gaps between them as pixels of so many bytes, without a copy."""
    rows, columns = lines.shape[0], lines.shape[1] // size
    return np.lib.stride_tricks.as_strided(lines, (rows, columns, size), (lines.strides[0], size, 1), writeable=False)


def _scaled(values: npt.NDArray[np.uint32], most: int) -> Pixels:
    """Numbers of 0 to `most` as 0 to 255, rounded."""
    if most == 0:
        return np.zeros(values.shape, np.uint8)
    if most < 1 << 16:
        steps = np.arange(most + 1, dtype=np.uint32)
        return ((steps * 255 + most // 2) // most).astype(np.uint8)[values]
    return ((values.astype(np.uint64) * 255 + most // 2) // most).astype(np.uint8)


def _runs(content: bytes, header: Header) -> bytearray:
    """Indices of all rows, as stored; 0 where the runs leave pixels out.

    Raises:
        CorruptImageError: they end before the last row, without saying so.
    """
    width, total = header.width, header.width * header.height
    indices, four = bytearray(total), header.compression == _RLE4
    line = column = 0
    place = header.pixels
    while line < header.height and place + 1 < len(content):
        count, value = content[place], content[place + 1]
        place += 2
        at = line * width + column
        room = max(0, min(count or value, width - column))
        if count:
            run = bytes((value >> 4, value & 15)) * (count + 1 >> 1) if four else bytes((value,)) * count
            indices[at : at + room] = run[:room]
            column += count
        elif value == 0:
            line, column = line + 1, 0
        elif value == 1:
            return indices
        elif value == 2:
            column += content[place] if place + 1 < len(content) else 0
            line += content[place + 1] if place + 1 < len(content) else 0
            place += 2
        else:
            size = value + 1 >> 1 if four else value
            run = content[place : place + size]
            if len(run) < size:
                break
            run = bytes(half for byte in run for half in (byte >> 4, byte & 15)) if four else run
            indices[at : at + room] = run[:room]
            column += value
            place += size + size % 2
    if line < header.height - 1 or (line == header.height - 1 and column < width):
        raise damaged()
    return indices

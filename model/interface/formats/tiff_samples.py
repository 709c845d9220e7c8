"""The samples of a TIFF picture. Pillow, with libtiff, only unpacks: what the bytes mean is decided here.

Pillow is given a file of our own making around the packed pixels: a grey one, whose rows are the picture's rows of
bytes. So few tags of the client reach libtiff, and any number of bits, samples and planes is the same to it. JPEG and
fax are pictures to libtiff too, and keep their kind.
"""

import io
import itertools
import struct
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from model.interface.formats import libtiff
from model.interface.formats.errors import CorruptImageError, damaged
from model.interface.formats.jpeg import check_blocks
from model.interface.formats.tiff_directory import Directory
from model.interface.formats.tiff_layout import CMYK, FAX, JPEG, RAW, RGB, YCBCR, Numbers, Pieces, Samples, unsupported

_STRIPS, _TILES = (273, 279), (324, 325)
_TABLES = 347
_MAX_TABLES = 65_536
"""Bytes of the tables that all JPEGs of a file share; Huffman's and the divisors together have some hundreds."""
_LONG, _UNDEFINED = 4, 7
_FENCE = int("0000001" * 32, 2).to_bytes(28)
"""Fax codes that stand for an extension which no decoder knows."""


class Stored:
    """The unpacked bytes of a picture.

    Args:
        content: the file.
        tags: of the picture.
        samples: what a pixel is made of.
        pieces: how the pixels are packed.

    Raises:
        CorruptImageError: it is truncated or damaged.
        UnsupportedImageError: it lacks tiles.
    """

    def __init__(self, content: bytes, tags: Directory, samples: Samples, pieces: Pieces) -> None:
        self._tags, self._samples, self._pieces = tags, samples, pieces
        self._width, self._height = tags.number(256, 0), tags.number(257, 0)
        down, across = pieces.cell
        self._in_cell = down * across + 2 if pieces.cell != (1, 1) else 1 if samples.planar else samples.count
        self._columns, self._rows = -(-self._width // across), -(-self._height // down)
        # Planes beyond the colours are seen only if they are the alpha to divide by.
        needed = max(samples.colours, (samples.alpha or 0) + 1) if samples.planar else 1
        self._planes = [self._unpacked(content, plane) for plane in range(needed)]

    def rows(self, top: int, bottom: int) -> Numbers:
        """(bottom - top, W, samples) of some rows; of all planes that were unpacked. `top` begins a cell."""
        down = self._pieces.cell[0]
        parts = [self._numbers(plane, top // down, -(-bottom // down)) for plane in self._planes]
        if self._pieces.cell != (1, 1):
            return self._spread(parts[0])[: bottom - top, : self._width]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _numbers(self, plane: Image.Image, top: int, bottom: int) -> Numbers:
        band = plane.crop((0, top, plane.width, bottom))
        if band.mode == "1":
            return (np.asarray(band.convert("L")) >> 7)[:, :, None]
        stored = np.asarray(band)
        if self._pieces.compression == JPEG:
            return stored.reshape(*stored.shape[:2], -1)
        bits, shape = self._samples.bits, (bottom - top, self._columns, self._in_cell)
        if bits == 8:
            return self._summed(stored.reshape(shape))
        if bits == 16:
            return self._summed(stored.view(self._samples.order + "u2").astype(np.uint16).reshape(shape))
        return _of_bits(stored, bits, self._columns * self._in_cell).reshape(shape)

    def _summed(self, numbers: Numbers) -> Numbers:
        """Differences to the left added up, which begin anew in each tile."""
        if not self._pieces.differences:
            return numbers
        summed = np.empty_like(numbers)
        for left in range(0, numbers.shape[1], self._pieces.width):
            part = slice(left, left + self._pieces.width)
            np.cumsum(numbers[:, part], axis=1, dtype=numbers.dtype, out=summed[:, part])
        return summed

    def _spread(self, cells: Numbers) -> Numbers:
        """(H, W, 3) of (cells down, cells across, lumas and two chromas)."""
        down, across = self._pieces.cell
        height, width = cells.shape[0] * down, cells.shape[1] * across
        pixels = np.empty((height, width, 3), np.uint8)
        lumas = cells[:, :, :-2].reshape(*cells.shape[:2], down, across)
        pixels[:, :, 0] = lumas.transpose(0, 2, 1, 3).reshape(height, width)
        pixels[:, :, 1:] = cells[:, :, -2:].repeat(down, axis=0).repeat(across, axis=1)
        return pixels

    def _unpacked(self, content: bytes, plane: int) -> Image.Image:
        places, sizes = self._places(content, plane)
        jpeg = self._pieces.compression == JPEG
        tables = self._tags.block(_TABLES) if jpeg else b""
        if self._pieces.compression in FAX:
            content, places, sizes = _fenced(content, places, sizes)
        file = _file(content, self._description() | {273: places, 279: sizes}, self._pieces.tiled, tables)
        # A Pillow image holds on to its file; a closed one has let go of its bytes.
        with io.BytesIO(file) as opened, libtiff.strict() if self._pieces.compression in FAX else nullcontext():
            image = Image.open(opened, formats=(TiffImagePlugin.TiffImageFile.format,))
            image.load()
        if jpeg:
            self._check_jpegs(content, tables, set(zip(places, sizes, strict=True)))
        return image

    def _check_jpegs(self, content: bytes, tables: bytes, pieces: set[tuple[int, int]]) -> None:
        """Refuse JPEGs that lack blocks, which libtiff would make up; equal tiles may be one."""
        if len(tables) > _MAX_TABLES or sum(size for _, size in pieces) > 2 * len(content):
            raise damaged()
        for place, size in pieces:
            piece = memoryview(content)[place : place + size]
            check_blocks(b"".join([tables[:-2], piece[2:]]) if tables else bytes(piece), self._pieces.height)

    def _places(self, content: bytes, plane: int) -> tuple[list[int], list[int]]:
        """Where the strips or tiles of a plane are, and how many bytes each has."""
        pieces = self._pieces
        count = -(-self._height // pieces.height) * -(-self._width // pieces.width)
        end = (plane + 1) * count
        places_tag, sizes_tag = _TILES if pieces.tiled and _TILES[0] in self._tags else _STRIPS
        if end > self._tags.count(places_tag):
            raise CorruptImageError("The image is truncated: it has too few strips or tiles. Send the whole file.")
        places = self._tags.numbers(places_tag, most=end)[plane * count : end]
        sizes = self._tags.numbers(sizes_tag, most=end)[plane * count : end]
        if any(not place and not size for place, size in zip(places, sizes, strict=False)):
            raise unsupported("a file that leaves out empty tiles")
        if len(sizes) < count or (count == 1 and not sizes[0]):
            sizes = tuple(len(content) - place for place in places)
        if any(
            place + (size if pieces.compression != RAW else 0) > len(content)
            for place, size in zip(places, sizes, strict=True)
        ):
            raise CorruptImageError("The image is truncated. Send the whole file.")
        if pieces.compression == RAW and any(map(self._lacks, itertools.count(), places, sizes)):
            raise damaged()
        return list(places), list(sizes)

    def _lacks(self, number: int, place: int, size: int) -> bool:
        """Whether an unpacked strip or tile is shorter than its rows: what is behind it must not become pixels.

        A picture in one strip may say it wrongly, as to libtiff, unless its rows would reach into the directory.
        """
        pieces, (down, across) = self._pieces, self._pieces.cell
        rows = -(-self._height // pieces.height)
        left = self._height - number % rows * pieces.height
        lines = -(-(pieces.height if pieces.tiled else min(pieces.height, left)) // down)
        whole = lines * -(-(-(-pieces.width // across) * self._in_cell * self._samples.bits) // 8)
        one = rows == 1 and not pieces.tiled
        return 0 < size < whole and (not one or place < self._tags.place < place + whole)

    def _description(self) -> dict[int, list[int]]:
        """Tags of the file for Pillow but for its places: what the pixels are to libtiff."""
        pieces, samples = self._pieces, self._samples
        tags = {256: [self._width], 257: [self._height], 258: [8], 259: [pieces.compression], 262: [1], 277: [1]}
        tags |= {266: [self._tags.hint(266, (1, 2))]}
        width, height = pieces.width, pieces.height
        if pieces.compression in FAX:
            tags |= {258: [1], 292: [self._tags.number(292, 0)], 293: [self._tags.number(293, 0)]}
        elif pieces.compression == JPEG:
            tags |= self._jpeg()
        else:
            size = self._in_cell * samples.bits
            tags |= {256: [-(-self._columns * size // 8)], 257: [self._rows]}
            width, height = width // pieces.cell[1] * size // 8, -(-height // pieces.cell[0])
        return tags | ({322: [width], 323: [height]} if pieces.tiled else {278: [height]})

    def _jpeg(self) -> dict[int, list[int]]:
        samples = self._samples
        if samples.planar or samples.count == 1:
            return {}
        kind = samples.photometric if samples.photometric in (CMYK, YCBCR) else RGB
        tags = {258: [8] * samples.count, 262: [kind], 277: [samples.count]}
        # How chroma is shared is not told: libtiff then finds it in the JPEG, where it is right.
        if kind == RGB and samples.count == 4:
            tags[338] = [2]
        return tags


def _fenced(content: bytes, places: list[int], sizes: list[int]) -> tuple[bytes, list[int], list[int]]:
    """The strips anew, each with a fence behind it: who reads on makes an error. Of an end, libtiff only warns."""
    if sum(sizes) > len(content):  # they overlap, and could add up to any size
        return content, places, sizes
    strips = [content[place : place + size] + _FENCE for place, size in zip(places, sizes, strict=True)]
    ends = list(itertools.accumulate(map(len, strips), initial=8))
    return bytes(8) + b"".join(strips), ends[:-1], [len(strip) for strip in strips]


def _of_bits(stored: npt.NDArray[np.uint8], bits: int, count: int) -> Numbers:
    """(H, count) numbers of so many bits each, the first in the highest bits (TIFF 6.0, FillOrder 1)."""
    split = np.unpackbits(stored, axis=1)[:, : count * bits].reshape(len(stored), count, bits)
    if bits < 8:
        return np.packbits(split, axis=2)[:, :, 0] >> (8 - bits)
    high, low = np.packbits(split, axis=2).transpose(2, 0, 1)
    numbers: Numbers = (high.astype(np.uint16) << 8 | low) >> (16 - bits)
    return numbers


def _file(content: bytes, tags: dict[int, list[int]], tiled: bool, tables: bytes) -> bytes:
    """A little-endian TIFF with these numbers as tags, and the content's bytes where they were."""
    if tiled:
        tags[_TILES[0]], tags[_TILES[1]] = tags.pop(_STRIPS[0]), tags.pop(_STRIPS[1])
    values = {tag: (_LONG, len(numbers), struct.pack(f"<{len(numbers)}I", *numbers)) for tag, numbers in tags.items()}
    if tables:
        values[_TABLES] = (_UNDEFINED, len(tables), tables)
    place = len(content) + len(content) % 2
    behind = place + 2 + 12 * len(values) + 4
    entries, blocks = [], []
    for tag, (kind, count, block) in sorted(values.items()):
        inside = len(block) <= 4
        entries.append(
            struct.pack("<HHI", tag, kind, count) + (block.ljust(4, b"\0") if inside else struct.pack("<I", behind))
        )
        if not inside:
            blocks.append(block + bytes(len(block) % 2))
            behind += len(blocks[-1])
    start = b"II*\0" + struct.pack("<I", place)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"".join([start, memoryview(content)[8:], bytes(len(content) % 2), directory, *blocks])

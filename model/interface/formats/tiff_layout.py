"""Which TIFF files are decoded: those of this allow-list, exactly. The others are refused with their kind by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt

from model.interface.formats import errors
from model.interface.formats.claims import MAX_PARTS
from model.interface.formats.errors import CorruptImageError, ImageTooLargeError
from model.interface.formats.tiff_directory import Directory

Numbers = npt.NDArray[Any]
"""Samples: uint8 up to 8 bits, uint16 above."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
RAW, JPEG, PACKBITS = 1, 7, 32773
FAX = (2, 3, 4, 32771)
_DIFFERENCES = (5, 8, 32946, 34925, 50000)
"""LZW, Deflate (two numbers), LZMA and Zstandard: what they pack may be the difference to the pixel on the left."""
_ASSOCIATED = 1
_MAX_PIXEL_BITS = 64
"""More would need more memory than is planned for a pixel."""
_MAX_COVER = 4
"""Tiles may have so many times the pixels of the largest picture: a panorama in square tiles has more than its own."""


@dataclass(frozen=True)
class _Kind:
    """What may go with a photometric interpretation: samples of the colour, their bits, most extra samples."""

    colours: int
    bits: tuple[int, ...]
    extra: int = 0
    associated: bool = False
    jpeg: bool = True


_ANY_BITS = (1, 2, 4, 8, 12, 16)
_KINDS = {
    WHITE_IS_ZERO: _Kind(1, _ANY_BITS, 1),
    BLACK_IS_ZERO: _Kind(1, _ANY_BITS, 1, associated=True),
    RGB: _Kind(3, _ANY_BITS, 3, associated=True),
    PALETTE: _Kind(1, (1, 2, 4, 8), 1, jpeg=False),
    CMYK: _Kind(4, (8, 16), 1),
    YCBCR: _Kind(3, (8,)),
}
_PHOTOMETRICS = {
    4: "a transparency mask",
    8: "L*a*b*",  # decoders differ by 37 levels and more
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "camera raw",
    32844: "LogL",
    32845: "LogLuv",
    34892: "camera raw",
    51177: "a depth map",
    52527: "a semantic mask",
}
_COMPRESSIONS = {
    6: "old JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT",
    32767: "Sony raw",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34713: "Nikon raw",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    65000: "Kodak raw",
    65535: "Pentax raw",
}
_FORMATS = {2: "signed samples", 3: "floating-point samples", 5: "complex samples", 6: "complex samples"}
_RAW_PHOTOMETRICS = (32803, 34892)
_RAW_MARKS = (50706, 50708, 33421, 33422)
"""Tags: version and camera of DNG, and the pattern of colours of a sensor."""
_RAW_STARTS = (b"CR", b"IIII", b"MMMM")
"""What Canon and Phase One write behind the header."""


unsupported = partial(errors.unsupported, "TIFF")
"""A refusal that names the kind."""


@dataclass(frozen=True)
class Samples:
    """What a pixel is made of.

    Attributes:
        photometric: what its colours mean.
        colours: how many samples are its colours; they come first.
        count: samples in all.
        bits: of each.
        alpha: which sample the colours are multiplied by, if any.
        planar: each sample has a plane of its own.
        order: of the bytes of 16 bits, `<` or `>`.
    """

    photometric: int
    colours: int
    count: int
    bits: int
    alpha: int | None
    planar: bool
    order: str


@dataclass(frozen=True)
class Pieces:
    """How the pixels are packed.

    Attributes:
        compression: the number in the file.
        differences: samples are stored as differences to the one on the left.
        height: of a strip or tile.
        width: of a strip or tile.
        tiled: they are tiles, with room for pixels beyond the picture.
        cell: height and width of the pixels that share their chroma, in YCbCr; (1, 1) elsewhere.
    """

    compression: int
    differences: bool
    height: int
    width: int
    tiled: bool
    cell: tuple[int, int]


def check_not_raw(content: bytes, tags: Directory) -> None:
    """Refuse the files of cameras, which begin with a small preview, and other previews and masks.

    Raises:
        UnsupportedImageError: the first picture is not the one that is meant.
    """
    kind, size = tags.number(254, 0), tags.number(256, 0) * tags.number(257, 0)
    inside = list(tags.others())
    raw = content[8:].startswith(_RAW_STARTS) or any(mark in tags for mark in _RAW_MARKS)
    raw = raw or any(one.number(262, -1) in _RAW_PHOTOMETRICS for one in (tags, *inside))
    if raw or any(one.number(256, 0) * one.number(257, 0) > size for one in inside):
        raise unsupported("camera raw")
    if kind & 1 or tags.number(255, 1) == 2:
        raise unsupported("a reduced preview comes first, as in camera raw")
    if kind & 4:
        raise unsupported(_PHOTOMETRICS[4])


def read_samples(tags: Directory) -> Samples:
    """What a pixel is made of.

    Raises:
        UnsupportedImageError: it is of a kind that is not decoded.
        CorruptImageError: the tags contradict each other.
    """
    photometric, count = tags.number(262, -1), tags.number(277, 1)
    kind = _KINDS.get(photometric)
    if kind is None:
        missing = "no photometric interpretation" if photometric < 0 else f"photometric interpretation {photometric}"
        raise unsupported(_PHOTOMETRICS.get(photometric, missing))
    if count < kind.colours:
        raise CorruptImageError("The image is damaged: a pixel lacks colours. Send the whole file.")
    for form in tags.numbers(339, (1,)):
        if form not in (1, 4):  # 4, undefined, is read as unsigned
            raise unsupported(_FORMATS.get(form, f"sample format {form}"), "8 or 16 bits a channel")
    bits = tags.numbers(258, (1,))[:count]
    if len(set(bits)) > 1:
        raise unsupported(f"samples of {', '.join(map(str, bits))} bits", "8 or 16 bits a channel")
    if bits[0] not in kind.bits:
        raise unsupported(f"{bits[0]} bits a sample", "8 or 16 bits a channel")
    if count > kind.colours + kind.extra or count * bits[0] > _MAX_PIXEL_BITS:
        raise unsupported(f"{count} samples of {bits[0]} bits a pixel", "it as RGB")
    if photometric == CMYK and tags.number(332, 1) != 1:
        raise unsupported("inks other than CMYK", "it as RGB")
    alpha = _alpha(tags.numbers(338), kind)
    return Samples(photometric, kind.colours, count, bits[0], alpha, tags.number(284, 1) == 2 and count > 1, tags.order)


def _alpha(extra: Sequence[int], kind: _Kind) -> int | None:
    if _ASSOCIATED not in extra:
        return None
    if not kind.associated:
        raise unsupported("colours multiplied by alpha", "it without alpha")
    return kind.colours + extra.index(_ASSOCIATED)


def read_pieces(tags: Directory, samples: Samples, height: int, width: int) -> Pieces:
    """How the pixels are packed.

    Raises:
        UnsupportedImageError: in a way that is not decoded.
        CorruptImageError: the tags contradict each other.
    """
    if max(tags.count(273), tags.count(324)) > MAX_PARTS:
        raise CorruptImageError(f"The image is refused: it has more than {MAX_PARTS} strips or tiles. Save it anew.")
    compression = tags.number(259, RAW)
    if compression not in (RAW, *FAX, JPEG, PACKBITS, *_DIFFERENCES):
        name = f" ({_COMPRESSIONS[compression]})" if compression in _COMPRESSIONS else ""
        raise unsupported(f"compression {compression}{name}")
    if compression in FAX and (samples.bits, samples.count) != (1, 1):
        raise unsupported("fax compression of more than one bit a pixel")
    planes = samples.count if samples.planar else 1
    chunky = samples.count // planes
    if compression == JPEG and not (_KINDS[samples.photometric].jpeg and samples.bits == 8 and chunky in (1, 3, 4)):
        raise unsupported(f"JPEG compression of {chunky} samples of {samples.bits} bits")
    predictor = tags.number(317, 1) if compression in _DIFFERENCES else 1
    if predictor not in (1, 2) or (predictor == 2 and samples.bits not in (8, 16)):
        raise unsupported(f"predictor {predictor} of {samples.bits} bits")
    by_jpeg = compression == JPEG and not samples.planar  # which then knows of chroma itself
    cell = _cell(tags) if samples.photometric == YCBCR and not by_jpeg else (1, 1)
    tiled = 322 in tags or 324 in tags
    rows, columns = (tags.number(323, 0), tags.number(322, 0)) if tiled else (tags.number(278, height), width)
    if rows < 1 or columns < 1:
        raise CorruptImageError("The image is damaged: its strips or tiles have no pixels. Send the whole file.")
    rows = rows if tiled else min(rows, height)
    if cell != (1, 1) and (
        samples.planar or predictor != 1 or (rows % cell[0] and rows < height) or (tiled and columns % cell[1])
    ):
        raise unsupported("YCbCr whose chroma has other rows")
    if tiled and compression not in (*FAX, JPEG) and columns * chunky * samples.bits % 8:
        raise unsupported("tiles whose rows end inside a byte")
    return Pieces(compression, predictor == 2, rows, columns, tiled, cell)


def _cell(tags: Directory) -> tuple[int, int]:
    """Height and width of the pixels that share their chroma."""
    across, down = (*tags.numbers(530, (2, 2)), 0)[:2]
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise CorruptImageError("The image is damaged: its chroma cannot be found. Send the whole file.")
    return down, across


def covered(pieces: Pieces, height: int, width: int) -> int:
    """Pixels of all strips or tiles; those of tiles may be far more than the picture's, and all are decoded."""
    return -(-height // pieces.height) * pieces.height * -(-width // pieces.width) * pieces.width


def check_tile(pieces: Pieces, height: int, width: int, max_pixels: int) -> None:
    """Refuse tiles larger than any image may be: a tile is decoded whole, however small the image.

    Raises:
        ImageTooLargeError: a tile has more pixels than allowed, or all of them more than `_MAX_COVER` times as many.
    """
    if pieces.tiled and pieces.height * pieces.width > max_pixels:
        raise ImageTooLargeError(
            f"Image has tiles of {pieces.width} x {pieces.height}; the limit is {max_pixels / 1e6:g} Mpx."
            " Save it with smaller tiles."
        )
    if pieces.tiled and covered(pieces, height, width) > _MAX_COVER * max_pixels:
        raise ImageTooLargeError(
            f"Image has tiles of {pieces.width} x {pieces.height}, together"
            f" {covered(pieces, height, width) / 1e6:.1f} Mpx; the limit is {_MAX_COVER * max_pixels / 1e6:g} Mpx."
            " Save it with smaller tiles."
        )

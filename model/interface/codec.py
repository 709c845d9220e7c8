"""Bytes to RGB pixels, and maps to PNG. Every fault of an image file is caught here."""

import contextlib
import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image

from model.interface.formats import claims
from model.interface.formats.bmp import open_bmp
from model.interface.formats.errors import CorruptImageError as CorruptImageError
from model.interface.formats.errors import ImageError as ImageError
from model.interface.formats.errors import ImageTooLargeError as ImageTooLargeError
from model.interface.formats.errors import UnsupportedImageError as UnsupportedImageError
from model.interface.formats.errors import damaged
from model.interface.formats.gif import open_gif
from model.interface.formats.identify import FORMATS as FORMATS
from model.interface.formats.identify import format_of
from model.interface.formats.jpeg import open_jpeg
from model.interface.formats.png import open_png
from model.interface.formats.rgb import upright
from model.interface.formats.tiff import open_tiff
from model.interface.formats.webp import open_webp
from model.interface.panoptic import Pixels

try:
    from zlib_ng import zlib_ng as deflate
except ImportError:  # pragma: no cover -- no wheel for this platform
    import zlib as deflate  # type: ignore[no-redef]

MAX_SIDE = 65_535
BAND_PIXELS = 1 << 20
"""Pixels that are compressed at a time: a whole picture at once would be in memory several times."""
_OPENERS = {"JPEG": open_jpeg, "PNG": open_png, "WebP": open_webp, "BMP": open_bmp, "GIF": open_gif}


class OpenImage:
    """An image whose header was read and whose size is allowed, before any of its pixels is decoded.

    Args:
        content: a file in one of `FORMATS`.
        max_pixels: most pixels that the image may have.

    Raises:
        UnsupportedImageError: the format is another.
        ImageTooLargeError: it has more pixels than `max_pixels`.
        CorruptImageError: it is truncated, damaged or empty.

    Attributes:
        height: pixels, as stored.
        width: pixels, as stored.
        work: how long decoding takes, in pixels: those of each pass of a JPEG with many scans, and the file's bytes.
    """

    def __init__(self, content: bytes, max_pixels: int) -> None:
        Image.MAX_IMAGE_PIXELS = None  # the check below takes the place of Pillow's, which only warns
        form = format_of(content)
        if form is None:
            raise UnsupportedImageError(f"Not an image in an accepted format. Send one of {', '.join(FORMATS)}.")
        if form != "TIFF" and (reason := claims.excess(content)):  # `tiff` counts for itself
            raise CorruptImageError(f"The image is refused: {reason}. Save it anew and send that.")
        with _as_image_errors():
            image = open_tiff(content, max_pixels) if form == "TIFF" else _OPENERS[form](content)
            check_size(image.height, image.width, max_pixels)
        self.height, self.width, self._image = image.height, image.width, image
        self.work = self.height * self.width * image.passes + len(content)

    def decode(self) -> Pixels:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            UnsupportedImageError: its pixels are floating-point numbers.
            CorruptImageError: it is truncated or damaged.
        """
        with _as_image_errors():
            return upright(self._image.pixels(), self._image.orientation)


def decode(content: bytes, max_pixels: int) -> Pixels:
    """The picture of an image file, upright and in 8-bit RGB.

    The first frame of an animation is taken, of an animated PNG the still picture. EXIF orientation is applied, alpha
    dropped, 16 bits are divided by 257 and rounded, colour profiles are ignored. The size is checked before anything is
    decoded.

    Args:
        content: a file in one of `FORMATS`.
        max_pixels: most pixels that the image may have.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnsupportedImageError: the format is another, or a kind that is not decoded.
        ImageTooLargeError: it has more pixels than `max_pixels`, or a side of more than `MAX_SIDE`.
        CorruptImageError: it is truncated, damaged or empty.
    """
    return OpenImage(content, max_pixels).decode()


@contextlib.contextmanager
def _as_image_errors() -> Iterator[None]:
    """Turns whatever a decoder raises into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever they meet: OSError, SyntaxError, struct.error, ...
        raise damaged() from error


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image that is too large, or empty, by the size in its header.

    Raises:
        ImageTooLargeError: it has more pixels than allowed, or a side of more than `MAX_SIDE`.
        CorruptImageError: it has no pixels.
    """
    if height < 1 or width < 1:
        raise CorruptImageError(f"Image is {width} x {height}: it has no pixels.")
    if max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(
            f"Image is {width} x {height}; the limit is {MAX_SIDE} pixels a side. Send a smaller image."
        )
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"Image is {width} x {height} = {width * height / 1e6:.1f} Mpx; the limit is {max_pixels / 1e6:g} Mpx."
            " Send a smaller image or raise UPSNET_MAX_PIXELS."
        )


def encode_png(pixels: Pixels, text: Mapping[str, str] | None = None) -> bytes:
    """A PNG that stores each row as its difference to the row above: small and fast for maps of segments.

    Args:
        pixels: (H, W, 3) uint8; or (H, W) uint8 ids, which become the red channel.
        text: texts by keyword, each for an iTXt chunk.

    Returns:
        The file: 8-bit RGB, not interlaced.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    for keyword, content in (text or {}).items():
        chunks.append(_chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + content.encode()))
    chunks += [_chunk(b"IDAT", _deflate(pixels)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _deflate(pixels: Pixels) -> bytes:
    """A zlib stream of runs: a filtered map is zero except at outlines, and a search for repeats finds little more."""
    packer = deflate.compressobj(1, deflate.DEFLATED, 15, 9, deflate.Z_RLE)
    height, width = pixels.shape[:2]
    band = max(1, BAND_PIXELS // width)
    packed = [packer.compress(_filtered(pixels, top, min(top + band, height))) for top in range(0, height, band)]
    return b"".join([*packed, packer.flush()])


def _filtered(pixels: Pixels, top: int, bottom: int) -> Pixels:
    """(bottom - top, 1 + 3 W) rows of a PNG: the number of the Up filter, then the difference to the row above."""
    change = np.empty((bottom - top, *pixels.shape[1:]), np.uint8)
    change[0] = pixels[0] if top == 0 else pixels[top] - pixels[top - 1]
    np.subtract(pixels[top + 1 : bottom], pixels[top : bottom - 1], out=change[1:])
    rows = np.zeros((bottom - top, 1 + 3 * pixels.shape[1]), np.uint8)
    rows[:, 0] = 2
    if pixels.ndim == 3:
        rows[:, 1:] = change.reshape(bottom - top, -1)
    else:
        places = np.flatnonzero(change != 0)
        rows.reshape(-1)[3 * places + places // pixels.shape[1] + 1] = change.reshape(-1)[places]
    return rows


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))

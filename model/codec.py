"""Bytes to RGB pixels, and maps to PNG. Everything that bytes can do wrong is caught here."""

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (  # each plugin registers its format; Pillow itself would load some of them too late
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from model import claims

try:
    from zlib_ng import zlib_ng as deflate
except ImportError:  # pragma: no cover -- no wheel for this platform
    import zlib as deflate  # type: ignore[no-redef]

OPENERS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,  # also opens MPO
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
    )
)
FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "MPO", "GIF")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")
MAX_SIDE = 65_535

Pixels = NDArray[np.uint8]


class ImageError(Exception):
    """An image is refused; the message is for the client."""


class UnsupportedImageError(ImageError):
    """The bytes are not a format that is accepted."""


class CorruptImageError(ImageError):
    """The format is accepted, but these bytes cannot be decoded."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed, by the file's own header."""


def decode(content: bytes, max_pixels: int) -> Pixels:
    """Decode an image by what its bytes are, upright and in 8-bit RGB.

    The first frame of an animation is taken. EXIF orientation is applied, alpha dropped, 16 bits are scaled to 8 by
    division by 257, colour profiles are ignored. The size is checked before anything is decoded.

    Args:
        content: JPEG, PNG, WebP, BMP, TIFF, MPO or GIF.
        max_pixels: of the decoded image.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnsupportedImageError: another format.
        ImageTooLargeError: more pixels than `max_pixels`.
        CorruptImageError: truncated, damaged or empty.
    """
    Image.MAX_IMAGE_PIXELS = None  # the check below takes the place of Pillow's, which only warns
    if reason := claims.excess(content):
        raise CorruptImageError(f"The image is refused: {reason}. Save it anew and send that.")
    try:
        with Image.open(io.BytesIO(content), formats=OPENERS) as image:
            check_tile(image, max_pixels)
            width, height = image.size
            check_size(height, width, max_pixels)
            pixels = decode_jpeg(content, image)
            if pixels is None:
                image.load()
                pixels = to_rgb(image)
            return upright(pixels, orientation(image))
    except UnidentifiedImageError as error:
        if content.startswith(SIGNATURES):
            raise CorruptImageError("The image is damaged: its header cannot be read. Send the whole file.") from error
        raise UnsupportedImageError(f"Not an image in an accepted format. Send one of {', '.join(FORMATS)}.") from error
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever they meet: OSError, SyntaxError, struct.error, ...
        raise CorruptImageError(
            "The image cannot be decoded: it is truncated or damaged. Send the whole file."
        ) from error


def decode_jpeg(content: bytes, image: Image.Image) -> Pixels | None:
    """A sound JPEG in a third less time than Pillow takes, and with the same pixels; None leaves it to Pillow.

    Args:
        content: of the file.
        image: Pillow's view of its header, whose size is allowed.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        if (width, height) != image.size:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:  # damaged, which Pillow may forgive, or of a rare kind
        return None
    return pixels


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse what is too large, or empty, by its header.

    Raises:
        ImageTooLargeError: more pixels than allowed.
        CorruptImageError: no pixels.
    """
    if height < 1 or width < 1:
        raise CorruptImageError(f"Image is {width} x {height}: it has no pixels.")
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(
            f"Image is {width} x {height} = {width * height / 1e6:.1f} Mpx; the limit is {max_pixels / 1e6:g} Mpx"
            f" and {MAX_SIDE} pixels a side. Send a smaller image or raise UPSNET_MAX_PIXELS."
        )


def check_tile(image: Image.Image, max_pixels: int) -> None:
    """Refuse a TIFF's tile that is larger than any image may be: it is decoded whole, however small the image.

    Raises:
        ImageTooLargeError: more pixels than allowed.
    """
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    width, height = tags.get(322, 0), tags.get(323, 0)
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"Image has tiles of {width} x {height}; the limit is {max_pixels / 1e6:g} Mpx. Save it with smaller tiles."
        )


def to_rgb(image: Image.Image) -> Pixels:
    """(H, W, 3) of a loaded image of any mode."""
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion clips them to white
        grey = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UnsupportedImageError("Image has floating-point pixels. Send 8 or 16 bits a channel.")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(274, 1)
    except Exception:  # a damaged block does not make the picture unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def ids_to_rgb(ids: NDArray[np.integer]) -> Pixels:
    """(H, W) ids to (H, W, 3): id = R + 256 G + 65536 B, as panopticapi reads them."""
    wide = ids.astype(np.uint32)
    return np.stack([wide & 255, wide >> 8 & 255, wide >> 16 & 255], axis=-1).astype(np.uint8)


def encode_png(pixels: Pixels, text: Mapping[str, str] | None = None) -> bytes:
    """A PNG whose rows are stored as differences to the row above: small and fast for maps of segments.

    Args:
        pixels: (H, W, 3) uint8, or (H, W) uint8 ids, which become the red channel.
        text: keyword -> text, each in an iTXt chunk.

    Returns:
        8-bit RGB, not interlaced.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 2  # the Up filter
    if pixels.ndim == 2:
        rows[0, 1::3] = pixels[0]
        np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1::3])
    else:
        flat = pixels.reshape(height, -1)
        rows[0, 1:] = flat[0]
        np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    for keyword, content in (text or {}).items():
        chunks.append(_chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + content.encode()))
    chunks += [_chunk(b"IDAT", _deflate(rows)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _deflate(rows: Pixels) -> bytes:
    """A zlib stream that looks for runs alone: filtered maps are zero but at outlines, and search finds little more."""
    packer = deflate.compressobj(1, deflate.DEFLATED, 15, 9, deflate.Z_RLE)
    return bytes(packer.compress(rows) + packer.flush())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))

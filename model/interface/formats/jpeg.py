"""JPEG to RGB by libjpeg-turbo itself."""

import contextlib
import re
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from model.interface.formats import claims
from model.interface.formats.errors import CorruptImageError, damaged, damaged_header, unsupported
from model.interface.formats.exif import orientation
from model.interface.formats.opened import Opened
from model.interface.formats.rgb import to_rgb
from model.interface.panoptic import Pixels

SCANS_A_PASS = 8
"""Empty scans of a progressive JPEG that take as long as decoding its pixels once."""
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}
"""Pillow's modes by the number of components; four are stored inverted, as Adobe began it and browsers expect it."""
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
"""Markers at which a picture's header begins; 0xF7 is JPEG-LS's."""
_PROGRESSIVE, _ARITHMETIC = (0xC2, 0xCA), (0xC9, 0xCA)
_KINDS = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
    0xCB: "lossless with arithmetic coding",
    0xF7: "JPEG-LS",
}
_ENDS_EARLY = ("premature end", "found marker 0xd9 instead of RST")
"""What libjpeg-turbo says of blocks that are not there."""
_HEIGHT_BEHIND = b"\xff\xdc\0\4"
_PROGRESSIVE_FRAME = re.compile(rb"\xff[\xc2\xca]")


class Frame(NamedTuple):
    """The header of a JPEG: the code of its marker, bits a sample, pixels, number of components."""

    marker: int
    bits: int
    height: int
    width: int
    components: int
    orientation: int
    scans: int
    """Where the first scan begins."""
    sampling: bytes
    """Of each component how often it is sampled, across in the high half and down in the low."""


def open_jpeg(content: bytes) -> Opened:
    """A JPEG, or the first picture of an MPO.

    Of the segments for applications and the comments, EXIF's orientation alone is read: whatever else is in them, and
    however damaged, the picture is not refused for it.

    Raises:
        UnsupportedImageError: it is of a kind that libjpeg-turbo does not decode to 8 bits.
        CorruptImageError: there is no picture.
    """
    frame = _frame(content)
    if kind := _unsupported(frame):
        raise unsupported("JPEG", kind)
    if not frame.height and _HEIGHT_BEHIND in content:
        raise unsupported("JPEG", "its height stands behind its pixels (DNL)")
    passes = _passes(content, frame.scans) if frame.marker in _PROGRESSIVE else 1
    return Opened(frame.height, frame.width, lambda: _pixels(content, frame), frame.orientation, passes)


def passes_inside(content: bytes) -> int:
    """How often at most a file that consists of JPEGs is decoded, as it were, if they are progressive."""
    return _passes(content, 0) if _PROGRESSIVE_FRAME.search(content) else 1


def _passes(content: bytes, start: int) -> int:
    scans = sum(1 for _ in claims.SCAN.finditer(content, start))
    return 1 + min(scans, claims.MAX_SCANS) // SCANS_A_PASS


def _frame(content: bytes) -> Frame:
    found, exif = None, None
    for marker, _, behind in claims.jpeg_markers(content):
        size = int.from_bytes(content[behind : behind + 2])
        if marker == claims.APP1 and exif is None and content.startswith(b"Exif\0", behind + 2):
            exif = content[behind + 8 : behind + size]  # the first, as browsers take it
        elif marker in _FRAMES and found is None and behind + 8 <= len(content):
            found = marker, behind
        elif marker == claims.START_OF_SCAN and found is not None:
            marker, place = found
            bits, height, width, components = (
                int.from_bytes(content[place + a : place + b]) for a, b in ((2, 3), (3, 5), (5, 7), (7, 8))
            )
            if int.from_bytes(content[place : place + 2]) != 8 + 3 * components or not 2 <= bits <= 16:
                break
            turned, sampling = orientation(exif or b""), content[place + 9 : place + 8 + 3 * components : 3]
            return Frame(marker, bits, height, width, components, turned, behind - 2, sampling)
    raise damaged_header()


def _unsupported(frame: Frame) -> str | None:
    """The name of the kind, where it is none that is decoded."""
    if frame.marker in _KINDS:
        return _KINDS[frame.marker]
    if frame.bits != 8:
        return f"{frame.bits} bits a sample"
    if frame.components not in _MODES:
        return f"{frame.components} components"
    for factors in ([both >> 4 for both in frame.sampling], [both & 15 for both in frame.sampling]):
        if min(factors) >= 1 and max(factors) <= 4 and any(max(factors) % factor for factor in factors):
            return "colours sampled in a ratio such as 2 to 3"
    return None


def _pixels(content: bytes, frame: Frame) -> Pixels:
    if content.rfind(b"\xff\xd9", frame.scans) < 0:
        return _without_end(content, frame)
    pixels = decode_at_once(content, frame)
    if pixels is not None:
        return pixels
    # Damaged, which Pillow may accept, or of a rare kind.
    mode, stored = _MODES[frame.components]
    return to_rgb(Image.frombytes(mode, (frame.width, frame.height), content, "jpeg", stored, ""))


def decode_at_once(content: bytes, frame: Frame) -> Pixels | None:
    """The same pixels as Pillow's, a third faster; None where libjpeg-turbo has anything to say against the file.

    Raises:
        CorruptImageError: it lacks pixels, which Pillow would make up.
    """
    colours = "CMYK" if frame.components == 4 else "RGB"
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        if (width, height) != (frame.width, frame.height):
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(content, colours)
    except ValueError as error:
        if any(sign in str(error) for sign in _ENDS_EARLY):
            raise damaged() from error
        return None
    if colours == "RGB":
        return pixels
    np.subtract(255, pixels, out=pixels)
    return to_rgb(Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK", 0, 1))


def check_blocks(content: bytes, most: int) -> None:
    """Check that no block of a JPEG is missing, at an eighth of its size, which takes a fraction of the time.

    Other damage is not looked for.

    Args:
        content: the file; its end mark may be missing.
        most: rows that are wanted. A JPEG of more is not checked.

    Raises:
        CorruptImageError: one is.
    """
    content += b"\xff\xd9"
    try:
        if simplejpeg.decode_jpeg_header(content)[0] <= most:
            simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        if any(sign in str(error) for sign in _ENDS_EARLY):
            raise damaged() from error


def _without_end(content: bytes, frame: Frame) -> Pixels:
    """The picture of a file that lacks its end, where it lacks nothing else: decoded strictly, every block is there.

    Zeros behind the last block are no part of it, as its last byte is filled up with ones; one is that follows a 255.

    Raises:
        CorruptImageError: it lacks more, or that could not be told.
    """
    blocks = content.rstrip(b"\0")
    ends = [blocks.removesuffix(b"\xff")]
    if blocks.endswith(b"\xff") and blocks != content:
        ends.append(blocks + b"\0")
    if frame.marker not in _ARITHMETIC and _is_refined(content, frame):
        for end in ends:
            with contextlib.suppress(CorruptImageError):
                pixels = decode_at_once(end + b"\xff\xd9", frame)
                if pixels is not None:
                    return pixels
    raise damaged()


def _is_refined(content: bytes, frame: Frame) -> bool:
    """Whether the scans hold each coefficient of each component to its last bit: a file cut between them lacks some."""
    missing: dict[int, set[int]] = {}
    for found in claims.SCAN.finditer(content, frame.scans):
        place = found.end() + 2
        components = content[place] if place < len(content) else 0
        parameters = place + 1 + 2 * components
        if parameters + 3 > len(content):
            return False
        first, last, low = content[parameters], content[parameters + 1], content[parameters + 2] & 15
        for component in content[place + 1 : parameters : 2]:
            left = missing.setdefault(component, set(range(64)))
            if frame.marker not in _PROGRESSIVE:
                left.clear()
            elif low == 0:
                left.difference_update(range(first, last + 1))
    return len(missing) == frame.components and not any(missing.values())

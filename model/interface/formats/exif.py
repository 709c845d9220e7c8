"""How a photo was held, from EXIF."""

import struct

_ORIENTATION, _SHORT = 274, 3


def orientation(block: bytes | memoryview) -> int:
    """1..8 as in the EXIF standard; 1 where a block says none, or is damaged.

    As browsers read it: one number of 16 bits in the first directory. Nothing else turns a picture, XMP included.

    Args:
        block: EXIF, a small TIFF file; with or without the `Exif` that precedes it in a JPEG.
    """
    if block[:6] == b"Exif\0\0":
        block = block[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, place)
        for at in range(place + 2, place + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", block, at)
            if tag == _ORIENTATION:
                return value if (kind, count) == (_SHORT, 1) and 1 <= value <= 8 else 1
    except struct.error:  # a damaged block does not make the picture unreadable
        return 1
    return 1

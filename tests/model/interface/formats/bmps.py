"""BMP files of every kind, written by hand."""

import struct

import numpy as np
import numpy.typing as npt

PALETTE = np.random.default_rng(3).integers(0, 256, (256, 3), np.uint8)
HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
Numbers = npt.NDArray[np.uint32]


def packed(numbers: Numbers, bits: int) -> bytes:
    """(H, W) numbers as rows, each filled up to four bytes; the first row first."""
    lines = []
    for row in numbers:
        if bits < 8:
            split = (row[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32) & 1).astype(np.uint8)
            line = np.packbits(split.reshape(-1)).tobytes()
        else:
            line = b"".join(int(number).to_bytes(bits // 8, "little") for number in row)
        lines.append(line + bytes(-len(line) % 4))
    return b"".join(lines)


def bmp(
    numbers: Numbers,
    bits: int,
    size: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    pixels: bytes | None = None,
    downwards: bool = False,
    colours: int | None = None,
    gap: int = 0,
    offset: int | None = None,
    file_size: int | None = None,
) -> bytes:
    """A whole file; `pixels` in place of those packed from `numbers`, with a gap before them."""
    height, width = numbers.shape
    if pixels is None:
        pixels = packed(numbers if downwards else numbers[::-1], bits)
    if size == 12:
        fields = struct.pack("<HHHH", width, height, 1, bits)
    else:
        stated = -height if downwards else height
        fields = struct.pack("<iiHHIIiiII", width, stated, 1, bits, compression, 0, 0, 0, colours or 0, 0)
        fields = fields[: size - 4]
        if size >= 52:
            fields += struct.pack("<IIII", *(masks or (0, 0, 0)), 0)
        fields = fields[: size - 4].ljust(size - 4, b"\0")
    behind = b"".join(struct.pack("<I", mask) for mask in masks) if size == 40 else b""
    if bits <= 8:
        entries = PALETTE[: 1 << bits if colours is None else colours, ::-1]
        behind += b"".join(entry.tobytes() + (b"" if size == 12 else b"\0") for entry in entries)
    begin = 14 + size + len(behind) + gap
    total = begin + len(pixels) if file_size is None else file_size
    head = b"BM" + struct.pack("<IHHI", total, 0, 0, begin if offset is None else offset)
    return head + struct.pack("<I", size) + fields + behind + bytes(gap) + pixels


def unmasked(numbers: Numbers, masks: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """8-bit RGB of numbers, each colour scaled by its largest value and rounded."""
    channels = []
    for mask in masks[:3]:
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        most = mask >> shift or 1
        channels.append(np.rint(((numbers.astype(np.float64).astype(np.uint64) & mask) >> shift) * (255 / most)))
    return np.stack(channels, axis=-1).astype(np.uint8)

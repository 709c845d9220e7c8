"""PNG files of every kind, written by hand: chunk by chunk, interlaced too."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

START = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16)]
KINDS += [(6, 8), (6, 16)]
"""Colour type and bits of a channel: all fifteen."""
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PALETTE = np.random.default_rng(7).integers(0, 256, (256, 3), np.uint8)


def chunk(kind: bytes, content: bytes = b"", sound: bool = True) -> bytes:
    crc = zlib.crc32(kind + content) ^ (0 if sound else 1)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def header(height: int, width: int, colours: int, bits: int, interlaced: bool = False) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced))


def rows(samples: npt.NDArray[np.uint16], bits: int) -> bytes:
    """(H, W, C) samples as rows of a PNG without filters."""
    packed = []
    for row in samples.reshape(len(samples), -1):
        if bits == 16:
            line = row.astype(">u2").tobytes()
        elif bits == 8:
            line = row.astype(np.uint8).tobytes()
        else:
            split = (row[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
            line = np.packbits(split.reshape(-1)).tobytes()
        packed.append(b"\0" + line)
    return b"".join(packed)


def stored(samples: npt.NDArray[np.uint16], bits: int, interlaced: bool = False) -> bytes:
    """What is packed into IDAT."""
    if not interlaced:
        return rows(samples, bits)
    passes = (samples[top::jump, left::step] for left, top, step, jump in ADAM7)
    return b"".join(rows(part, bits) for part in passes if part.size)


def png(
    samples: npt.NDArray[np.uint16],
    colours: int,
    bits: int,
    interlaced: bool = False,
    before: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """A whole file, with chunks before and behind those of the pixels."""
    height, width = samples.shape[:2]
    palette = chunk(b"PLTE", PALETTE[: 1 << bits].tobytes()) if colours == 3 else b""
    packed = zlib.compress(stored(samples, bits, interlaced))
    pixels = chunk(b"IDAT", packed[:9]) + chunk(b"IDAT", packed[9:])
    head = START + header(height, width, colours, bits, interlaced)
    return head + before + palette + pixels + behind + chunk(b"IEND")


def samples(height: int, width: int, colours: int, bits: int) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(height * width + bits)
    return rng.integers(0, 1 << bits, (height, width, CHANNELS[colours]), np.uint16)


def shown(samples: npt.NDArray[np.uint16], colours: int, bits: int) -> npt.NDArray[np.uint8]:
    """The same in 8-bit RGB, alpha dropped."""
    if colours == 3:
        return PALETTE[samples[..., 0]]
    scaled = np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8)  # no number is between two: 257 is odd
    return np.repeat(scaled[..., :1], 3, axis=2) if colours in (0, 4) else scaled[..., :3]

"""TIFF files of any kind, from the numbers that they hold."""

import itertools
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.generic]
Tags = dict[int, tuple[int, tuple[int, ...]]]
SHORT, LONG, LONG8 = 3, 4, 16
FORMS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "2I", 7: "B", 8: "h", 9: "i", 16: "Q", 17: "q"}


def packbits(raw: bytes) -> bytes:
    """Literal runs alone."""
    parts = [raw[i : i + 128] for i in range(0, len(raw), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


PACKERS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    8: zlib.compress,
    32946: zlib.compress,
    32773: packbits,
    34925: lzma.compress,
}


def tiff_of(
    numbers: Numbers,
    photometric: int,
    bits: int = 8,
    *,
    planar: bool = False,
    compression: int = 1,
    order: str = "<",
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    predictor: int = 1,
    big: bool = False,
    more: Tags | None = None,
) -> bytes:
    """A file.

    Args:
        numbers: (H, W, samples), of any type of at least so many bits.
        photometric: the tag of that name.
        bits: of each sample.
        planar: whether each sample has a plane of its own.
        compression: one of `PACKERS`.
        order: of bytes.
        tile: height and width of the tiles; None for strips.
        rows: of each strip; None for one strip.
        predictor: 1 or 2.
        big: BigTIFF.
        more: type and numbers of further tags.
    """
    height, width, samples = numbers.shape
    pieces = []
    for part in [numbers[:, :, i : i + 1] for i in range(samples)] if planar else [numbers]:
        for piece in cut(part, tile or (rows or height, width), tile is not None):
            piece = differences(piece) if predictor == 2 else piece
            pieces.append(PACKERS[compression](packed(piece, bits, order)))
    tags: Tags = {256: (LONG, (width,)), 257: (LONG, (height,)), 258: (SHORT, (bits,) * samples)}
    tags |= {259: (SHORT, (compression,)), 262: (SHORT, (photometric,)), 277: (SHORT, (samples,))}
    tags |= {284: (SHORT, (2 if planar else 1,))}
    if predictor != 1:
        tags[317] = SHORT, (predictor,)
    if tile:
        tags |= {322: (SHORT, (tile[1],)), 323: (SHORT, (tile[0],))}
    else:
        tags[278] = LONG, (rows or height,)
    return written(tags | (more or {}), pieces, order, big, (324, 325) if tile else (273, 279))


def cut(numbers: Numbers, size: tuple[int, int], whole: bool) -> Iterator[Numbers]:
    """Strips, or tiles with room behind the picture."""
    for top, left in itertools.product(range(0, len(numbers), size[0]), range(0, numbers.shape[1], size[1])):
        piece = numbers[top : top + size[0], left : left + size[1]]
        room = [(0, size[0] - piece.shape[0]), (0, size[1] - piece.shape[1]), (0, 0)]
        yield np.pad(piece, room) if whole else piece


def differences(piece: Numbers) -> Numbers:
    changed = piece.copy()
    changed[:, 1:] = piece[:, 1:] - piece[:, :-1]
    return changed


def packed(piece: Numbers, bits: int, order: str) -> bytes:
    """Rows of bytes."""
    if bits in (8, 16, 32, 64):
        return piece.astype(piece.dtype.newbyteorder(order)).tobytes()
    flat = piece.reshape(len(piece), -1, 1).astype(">u2")
    split = np.unpackbits(flat.view(np.uint8), axis=2)[:, :, 16 - bits :]
    return np.packbits(split.reshape(len(piece), -1), axis=1).tobytes()


def written(tags: Tags, pieces: list[bytes], order: str, big: bool, where: tuple[int, int] = (273, 279)) -> bytes:
    """Header, pieces, directory, and the numbers that have no room in it."""
    start = 16 if big else 8
    places = [start + sum(map(len, pieces[:i])) for i in range(len(pieces))]
    tags = tags | {where[0]: (LONG, tuple(places)), where[1]: (LONG, tuple(map(len, pieces)))}
    offset, number, entry, room = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
    directory = start + sum(map(len, pieces))
    directory += directory % 2
    behind = directory + struct.calcsize("<" + number) + len(tags) * struct.calcsize("<" + entry + offset) + room
    entries, blocks = [], []
    for tag, (kind, values) in sorted(tags.items()):
        form = FORMS[kind]
        block = struct.pack(f"{order}{len(values)}{form[-1]}", *values)
        count = len(values) // (2 if kind == 5 else 1)
        inside = block.ljust(room, b"\0") if len(block) <= room else struct.pack(order + offset, behind)
        entries.append(struct.pack(order + entry, tag, kind, count) + inside)
        if len(block) > room:
            blocks.append(block + bytes(len(block) % 2))
            behind += len(blocks[-1])
    header = b"II" if order == "<" else b"MM"
    header += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, directory) if big else (42, directory)))
    body = (header + b"".join(pieces)).ljust(directory, b"\0")
    return body + struct.pack(order + number, len(tags)) + b"".join(entries) + bytes(room) + b"".join(blocks)

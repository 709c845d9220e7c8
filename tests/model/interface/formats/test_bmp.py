"""Every kind of BMP that keeps its pixels as numbers or runs, exactly; the others by name."""

import struct
import time

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats import bmp as module
from tests.model.interface.formats.bmps import HEADERS, PALETTE, Numbers, bmp, packed, unmasked
from tests.model.interface.pictures import encoded, gradient

LIMIT = 1_000_000
USUAL = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}
SIZES = [(1, 1), (1, 2), (2, 1), (5, 3), (7, 8), (6, 9), (13, 33)]


def numbers(height: int, width: int, bits: int) -> Numbers:
    return np.random.default_rng(height + bits).integers(0, 1 << bits, (height, width), np.uint32)


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("size", HEADERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 24, 32])
def test_every_number_of_bits_is_exact_under_every_header(bits: int, size: int, downwards: bool) -> None:
    for height, width in SIZES:
        stored = numbers(height, width, bits)
        content = bmp(stored, bits, size, downwards=downwards and size != 12)
        wanted = PALETTE[stored] if bits <= 8 else unmasked(stored, USUAL[bits])
        assert np.array_equal(codec.decode(content, LIMIT), wanted), (height, width)


MASKS = {
    16: [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F), (0xF00, 0xF0, 0xF), (0xF, 0xF0, 0xF00), (0xE000, 0x1C00, 3)],
    24: [(0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFC0000, 0x3F000, 0xFC0)],
    32: [
        (0xFF0000, 0xFF00, 0xFF),
        (0xFF000000, 0xFF0000, 0xFF00),
        (0xFF, 0xFF00, 0xFF0000),
        (0xFF00, 0xFF0000, 0xFF000000),
        (0x3FF00000, 0xFFC00, 0x3FF),
        (0x7C00, 0x3E0, 0x1F),
        (0xFF80000, 0x7F800, 0x7F),
        (0xFFFF0000, 0xFF00, 0xFF),
        (0xFFFFF000, 0xFF0, 0xF),
        (0xFF, 0, 0xFF00),
        (1, 2, 4),
    ],
}


@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(("bits", "masks"), [(bits, masks) for bits, kinds in MASKS.items() for masks in kinds])
def test_masks_of_any_bits_are_scaled_and_rounded(bits: int, masks: tuple[int, ...], size: int) -> None:
    stored = numbers(7, 9, bits)
    content = bmp(stored, bits, size, compression=3, masks=masks)
    assert np.array_equal(codec.decode(content, LIMIT), unmasked(stored, masks))


def test_masks_with_one_for_alpha_and_none_at_all() -> None:
    stored = numbers(5, 6, 32)
    wanted = unmasked(stored, USUAL[32])
    assert np.array_equal(codec.decode(bmp(stored, 32, 40, 6, (*USUAL[32], 0xFF000000)), LIMIT), wanted)
    assert np.array_equal(codec.decode(bmp(stored, 32, 56, 3, (0, 0, 0)), LIMIT), wanted)


@pytest.mark.parametrize("bits", [1, 4, 8, 24])
def test_wrong_sizes_and_offsets_refuse_no_whole_picture(bits: int) -> None:
    stored = numbers(6, 9, bits)
    wanted = codec.decode(bmp(stored, bits), LIMIT)
    for size in (0, 1, 54, 10**6, (1 << 32) - 1):
        assert np.array_equal(codec.decode(bmp(stored, bits, file_size=size), LIMIT), wanted)
    for offset in (0, 1, 14, 53, 10**6, (1 << 32) - 1):
        assert np.array_equal(codec.decode(bmp(stored, bits, offset=offset), LIMIT), wanted)
    assert np.array_equal(codec.decode(bmp(stored, bits, gap=100), LIMIT), wanted)
    assert np.array_equal(codec.decode(bmp(stored, bits) + b"more", LIMIT), wanted)
    row = (9 * bits + 7) // 8
    lacking = (4 - row) % 4  # of the last row, what fills it up
    assert np.array_equal(codec.decode(bmp(stored, bits)[: -lacking or None], LIMIT), wanted)
    for cut in (lacking + 1, 9 * lacking + 5):
        for gap in (0, 100):
            with pytest.raises(codec.CorruptImageError):
                codec.decode(bmp(stored, bits, gap=gap)[:-cut], LIMIT)


def test_short_and_long_palettes() -> None:
    stored = numbers(6, 9, 8)
    short = codec.decode(bmp(stored, 8, colours=100), LIMIT)
    assert np.array_equal(short, np.where(stored[..., None] < 100, PALETTE[stored], 0))
    stored = numbers(6, 9, 4)
    assert np.array_equal(codec.decode(bmp(stored, 4, colours=200), LIMIT), PALETTE[stored])


RLE8 = b"\3\7" + b"\0\0" + b"\0\5\1\2\3\4\5\0" + b"\0\0" + b"\0\2\1\1" + b"\2\x09" + b"\0\1"
RLE8_ROWS = [[7, 7, 7, 0, 0], [1, 2, 3, 4, 5], [0] * 5, [0, 9, 9, 0, 0]]
RLE4 = b"\5\x12" + b"\0\0" + b"\0\5\x34\x56\x70\0" + b"\0\1"
RLE4_ROWS = [[1, 2, 1, 2, 1], [3, 4, 5, 6, 7], [0] * 5]


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("gap", [0, 1])
def test_runs(downwards: bool, gap: int) -> None:
    for bits, runs, rows in ((8, RLE8, RLE8_ROWS), (4, RLE4, RLE4_ROWS)):
        wanted = np.array(rows if downwards else rows[::-1])
        content = bmp(wanted, bits, 40, 1 if bits == 8 else 2, pixels=runs, downwards=downwards, gap=gap)
        assert np.array_equal(codec.decode(content, LIMIT), PALETTE[wanted])


def test_runs_stay_in_their_row_and_must_end_with_the_picture() -> None:
    blank = np.zeros((2, 4), np.uint32)
    over = codec.decode(bmp(blank, 8, compression=1, pixels=b"\xff\x05\x03\6\0\0\4\7\0\1"), LIMIT)
    assert np.array_equal(over, PALETTE[np.array([[7] * 4, [5] * 4])])
    assert codec.decode(bmp(blank, 8, compression=1, pixels=b"\4\5\0\0\4\7"), LIMIT).shape == (2, 4, 3)
    for cut in (b"", b"\4", b"\4\5", b"\4\5\0\0", b"\4\5\0\0\3\7", b"\4\5\0\0\0\4\1\2"):
        with pytest.raises(codec.CorruptImageError):
            codec.decode(bmp(blank, 8, compression=1, pixels=cut), LIMIT)


def test_runs_are_work() -> None:
    content = bmp(np.zeros((8, 8), np.uint32), 8, 40, 1, pixels=b"\1\5" * 200_000 + b"\0\1")
    assert codec.OpenImage(content, LIMIT).work > 5_000_000


def test_runs_of_no_length_take_no_time() -> None:
    blank = np.zeros((900, 900), np.uint32)
    content = bmp(blank[:1, :1], 8, compression=1, pixels=b"\0\2\0\0" * 100_000 + b"\0\1")
    content = content[:18] + struct.pack("<ii", 900, 900) + content[26:]
    began = time.process_time()
    assert codec.decode(content, LIMIT).shape == (900, 900, 3)
    assert time.process_time() - began < 1


def kind(bits: int, compression: int, size: int = 40, masks: tuple[int, ...] = ()) -> bytes:
    return bmp(np.zeros((4, 4), np.uint32), bits, size, compression, masks, pixels=bytes(128))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (kind(0, 4), "a JPEG inside"),
        (kind(24, 4), "a JPEG inside"),
        (kind(0, 5), "a PNG inside"),
        (kind(32, 11), "CMYK"),
        (kind(8, 12), "CMYK"),
        (kind(4, 13), "CMYK"),
        (kind(1, 3, 64), "fax"),
        (kind(24, 4, 64), "run lengths of 24 bits"),
        (kind(64, 0), "64 bits a pixel"),
        (kind(32, 3, masks=(0xF0F0, 0xF0000, 0xF)), "bits are apart"),
        (kind(32, 3, masks=(0xFF00, 0xFF0, 0xF)), "share bits"),
    ],
)
def test_kinds_that_are_not_decoded_are_told_by_name(content: bytes, name: str) -> None:
    with pytest.raises(codec.UnsupportedImageError, match=f"This kind of BMP is not supported: .*{name}"):
        codec.decode(content, LIMIT)


@pytest.mark.parametrize(
    "content", [kind(3, 0), kind(0, 0), kind(8, 99), kind(24, 1), kind(8, 2), kind(8, 0)[:50], kind(24, 3)[:60]]
)
def test_a_header_that_no_bmp_has_is_damage(content: bytes) -> None:
    with pytest.raises(codec.CorruptImageError):
        codec.decode(content, LIMIT)


def test_bands_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(gradient(31, 17), "BMP"), bmp(numbers(17, 31, 4), 4), bmp(numbers(17, 31, 16), 16)]
    whole = [codec.decode(content, LIMIT) for content in files]
    monkeypatch.setattr(module, "BAND_PIXELS", 70)
    for content, pixels in zip(files, whole, strict=True):
        assert np.array_equal(codec.decode(content, LIMIT), pixels)
    assert np.array_equal(whole[0], np.asarray(gradient(31, 17)))


def test_pillows_own_files_come_back() -> None:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        image = gradient(13, 7).convert(mode)
        assert np.array_equal(codec.decode(encoded(image, "BMP"), LIMIT), np.asarray(image.convert("RGB")))
    assert packed(np.ones((1, 9), np.uint32), 1) == b"\xff\x80\0\0"
    assert Image.new("1", (1, 1)).mode == "1"

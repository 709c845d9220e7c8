"""Which TIFF files are decoded, and to which pixels: small literal ones of each kind."""

import io
import struct
import zlib

import numpy as np
import pytest

from model.interface import codec
from tests.model.interface.formats.tiff_files import LONG, PACKERS, SHORT, Numbers, Tags, tiff_of, written
from tests.model.interface.pictures import encoded, gradient
from tests.service.hostile import saved
from tests.service.tiffs import tiff_tile

GREY = np.array([[[0], [1], [2], [3]], [[3], [3], [0], [1]]], np.uint8)
DEEP = np.array([[[0], [257], [65535], [32896]]], np.uint16)
FOUR = np.array([[[10, 20, 30, 255], [5, 10, 15, 127], [0, 0, 0, 0]]], np.uint8)


def decoded(content: bytes) -> list[list[list[int]]]:
    return codec.decode(content, 10_000).tolist()


def refusal(content: bytes) -> str:
    with pytest.raises(codec.UnsupportedImageError) as refused:
        codec.decode(content, 10_000)
    return str(refused.value).removeprefix("This kind of TIFF is not supported: ")


def greys(numbers: list[int]) -> list[list[list[int]]]:
    return [[[number] * 3 for number in numbers]]


def test_tiles_larger_than_any_picture_are_refused() -> None:
    with pytest.raises(codec.ImageTooLargeError, match="tiles of 2000 x 2000"):
        codec.decode(tiff_tile(1, 1, 2000), 1_000_000)


def test_tiles_that_are_mostly_outside_the_picture_are_work_and_refused_where_they_are_too_many() -> None:
    def tall(height: int) -> bytes:
        tile = zlib.compress(bytes(16 * 50_000))
        count = -(-height // 16)
        tags: Tags = {256: (LONG, (1,)), 257: (LONG, (height,)), 258: (SHORT, (8,)), 259: (SHORT, (8,))}
        tags |= {262: (SHORT, (1,)), 277: (SHORT, (1,)), 322: (LONG, (50_000,)), 323: (LONG, (16,))}
        return written(tags | {324: (LONG, (8,) * count), 325: (LONG, (len(tile),) * count)}, [tile], "<", False)

    assert codec.OpenImage(tall(64), 1_000_000).work >= 4 * 16 * 50_000
    assert codec.decode(tall(64), 1_000_000).shape == (64, 1, 3)
    with pytest.raises(codec.ImageTooLargeError, match=r"tiles of 50000 x 16, together 4.8 Mpx; the limit is 4 Mpx"):
        codec.decode(tall(96), 1_000_000)


def test_scans_of_a_progressive_jpeg_inside_are_work() -> None:
    whole = encoded(gradient(64, 48), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    tags: Tags = {256: (LONG, (64,)), 257: (LONG, (48,)), 258: (SHORT, (8, 8, 8)), 259: (SHORT, (7,))}
    tags |= {262: (SHORT, (6,)), 277: (SHORT, (3,)), 278: (LONG, (48,))}
    usual, longer = (
        codec.OpenImage(written(tags, [packed], "<", False), 10_000).work
        for packed in (whole, whole[:last] + whole[last:-2] * 40 + whole[-2:])
    )
    assert longer > usual + 4 * 64 * 48


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", PACKERS)
def test_grey_of_16_bits_in_every_packing(order: str, big: bool, compression: int) -> None:
    content = tiff_of(DEEP, 1, 16, order=order, big=big, compression=compression)
    assert decoded(content) == greys([0, 1, 255, 128])
    assert decoded(tiff_of(DEEP, 0, 16, order=order, big=big)) == greys([255, 254, 0, 127])


def test_few_bits_are_scaled_to_white() -> None:
    assert decoded(tiff_of(GREY[:1], 1, 2)) == greys([0, 85, 170, 255])
    assert decoded(tiff_of(GREY[:1], 0, 2)) == greys([255, 170, 85, 0])
    assert decoded(tiff_of(GREY[:1], 1, 4)) == greys([0, 17, 34, 51])
    assert decoded(tiff_of(GREY[:1] & 1, 1, 1)) == greys([0, 255, 0, 255])
    twelve = np.array([[[0], [16], [2048], [4095]]], np.uint16)
    assert decoded(tiff_of(twelve, 1, 12)) == greys([0, 1, 128, 255])


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("extra", [(), (0,), (1,), (2,)])
def test_alpha_is_dropped_and_what_it_multiplied_divided(planar: bool, extra: tuple[int, ...]) -> None:
    more: Tags = {338: (SHORT, extra)} if extra else {}
    second = [10, 20, 30] if extra == (1,) else [5, 10, 15]
    assert decoded(tiff_of(FOUR, 2, planar=planar, more=more)) == [[[10, 20, 30], second, [0, 0, 0]]]
    deep = FOUR.astype(np.uint16) * 257
    assert decoded(tiff_of(deep, 2, 16, planar=planar, more=more)) == [[[10, 20, 30], second, [0, 0, 0]]]
    if extra:
        grey = FOUR[:, :, 2:]
        content = tiff_of(grey, 1, planar=planar, more=more)
        assert decoded(content) == greys([30, 30 if extra == (1,) else 15, 0])


def test_a_palette_of_16_bits_a_colour() -> None:
    colours = (0, 256, 65535, 32768, *[0] * 4, *[65535] * 4)
    content = tiff_of(GREY[:1], 3, 2, more={320: (SHORT, colours)})
    assert decoded(content) == [[[0, 0, 255], [1, 0, 255], [255, 0, 255], [128, 0, 255]]]
    with pytest.raises(codec.CorruptImageError, match="palette"):
        codec.decode(tiff_of(GREY, 3, 2, more={320: (SHORT, colours[:9])}), 100)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk(bits: int, planar: bool) -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 51], [9, 9, 9, 255]]], np.uint16)
    numbers = inks.astype(np.uint8) if bits == 8 else inks * 257
    expected = [[[255, 255, 255], [0, 255, 255], [204, 0, 204], [0, 0, 0]]]
    assert decoded(tiff_of(numbers, 5, bits, planar=planar)) == expected


def test_ycbcr_with_its_own_chroma_and_with_shared() -> None:
    whole = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107], [128, 128, 128]]], np.uint8)
    expected = [[[254, 0, 0], [0, 255, 1], [0, 0, 254], [128, 128, 128]]]
    assert decoded(tiff_of(whole, 6, more={530: (SHORT, (1, 1))})) == expected
    # Two lumas, then the chroma of both: to `tiff_of`, one pixel of four samples.
    pair = np.array([[[10, 200, 128, 128]]], np.uint8)
    content = tiff_of(
        pair, 6, more={256: (SHORT, (2,)), 258: (SHORT, (8, 8, 8)), 277: (SHORT, (3,)), 530: (SHORT, (2, 1))}
    )
    assert decoded(content) == greys([10, 200])


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_differences_begin_anew_in_each_row_of_each_tile(
    predictor: int, tile: tuple[int, int] | None, kind: type[np.generic]
) -> None:
    numbers = np.random.default_rng(3).integers(0, np.iinfo(kind).max, (20, 37, 3), kind)  # type: ignore[type-var]
    bits = 8 * numbers.itemsize
    content = tiff_of(numbers, 2, bits, compression=8, predictor=predictor, tile=tile, rows=7)
    expected = np.rint(numbers / (257 if bits == 16 else 1)).astype(int)
    assert decoded(content) == expected.tolist()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"])
def test_what_pillow_writes(compression: str) -> None:
    picture = gradient(37, 23)
    content = saved(picture, "TIFF", compression=compression)
    read_back = codec.Image.open(io.BytesIO(content)) if compression == "jpeg" else picture
    assert np.array_equal(codec.decode(content, 10_000), np.asarray(read_back))


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_fax(compression: str) -> None:
    black = np.add.outer(np.arange(23) // 5, np.arange(37) // 3) % 2 == 0
    picture = saved(codec.Image.fromarray(black), "TIFF", compression=compression)
    assert np.array_equal(codec.decode(picture, 10_000)[:, :, 1] == 255, black)


@pytest.mark.parametrize("compression", [1, 8])
def test_bits_from_the_lowest_up(compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    pack = PACKERS[compression]
    monkeypatch.setitem(PACKERS, compression, lambda raw: pack(raw).translate(turned))
    content = tiff_of(GREY[:1], 1, 2, compression=compression, more={266: (SHORT, (2,))})
    assert decoded(content) == greys([0, 85, 170, 255])


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(turn: int) -> None:
    numbers = np.array([[[1], [2]]], np.uint8)
    expected = [1, 2] if turn in (1, 4, 5, 6) else [2, 1]
    shape = (1, 2, 3) if turn < 5 else (2, 1, 3)
    pixels = codec.decode(tiff_of(numbers, 1, more={274: (SHORT, (turn,))}), 10)
    assert (pixels.shape, pixels[:, :, 0].ravel().tolist()) == (shape, expected)


@pytest.mark.parametrize("signature", [b"II\0*", b"MM*\0"])
def test_a_signature_of_the_other_byte_order(signature: bytes) -> None:
    content = tiff_of(DEEP, 1, 16, order="<" if signature.startswith(b"II") else ">")
    assert decoded(signature + content[4:]) == greys([0, 1, 255, 128])


@pytest.mark.parametrize(
    ("numbers", "photometric", "bits", "more", "kind"),
    [
        (np.float32([[[0.5]]]), 1, 32, {339: (SHORT, (3,))}, "floating-point samples. Send 8 or 16 bits a channel."),
        (np.float32([[[0.5] * 3]]), 2, 32, {339: (SHORT, (3, 3, 3))}, "floating-point samples."),
        (np.int16([[[5]]]), 1, 16, {339: (SHORT, (2,))}, "signed samples."),
        (np.uint32([[[5]]]), 1, 32, {}, "32 bits a sample."),
        (np.uint32([[[5] * 3]]), 2, 32, {}, "32 bits a sample."),
        (GREY, 1, 8, {258: (SHORT, (10,))}, "10 bits a sample."),
        (FOUR, 2, 8, {258: (SHORT, (5, 6, 5, 0))}, "samples of 5, 6, 5, 0 bits."),
        (FOUR, 1, 8, {338: (SHORT, (0, 0, 0))}, "4 samples of 8 bits a pixel. Send it as RGB."),
        (FOUR, 5, 8, {332: (SHORT, (2,))}, "inks other than CMYK."),
        (FOUR[:, :, :2], 0, 8, {338: (SHORT, (1,))}, "colours multiplied by alpha."),
        (GREY, 4, 1, {}, "a transparency mask."),
        (FOUR[:, :, :3], 8, 8, {}, "L*a*b*. Send it as an 8-bit PNG or JPEG."),
        (GREY, 32803, 8, {}, "camera raw."),
        (GREY, 77, 8, {}, "photometric interpretation 77."),
        (GREY, 1, 8, {259: (SHORT, (50001,))}, "compression 50001 (WebP)."),
        (GREY, 1, 8, {259: (SHORT, (6,))}, "compression 6 (old JPEG)."),
        (GREY, 1, 8, {259: (SHORT, (4711,))}, "compression 4711."),
        (GREY, 1, 8, {259: (SHORT, (4,))}, "fax compression of more than one bit a pixel."),
        (GREY, 1, 8, {254: (SHORT, (1,))}, "a reduced preview comes first, as in camera raw."),
        (GREY, 1, 8, {255: (SHORT, (2,))}, "a reduced preview comes first, as in camera raw."),
        (GREY, 1, 8, {254: (SHORT, (4,))}, "a transparency mask."),
        (GREY, 1, 8, {50706: (7, (1, 4, 0, 0))}, "camera raw."),
        (GREY, 1, 8, {259: (SHORT, (5,)), 317: (SHORT, (3,))}, "predictor 3 of 8 bits."),
    ],
)
def test_a_kind_that_is_not_decoded_is_refused_by_name(
    numbers: Numbers, photometric: int, bits: int, more: Tags, kind: str
) -> None:
    assert refusal(tiff_of(numbers, photometric, bits, more=more)).startswith(kind)


def test_a_preview_is_known_by_the_larger_picture_inside() -> None:
    """As a camera writes it that does not say which picture is reduced."""
    inner = struct.pack("<HHHIIHHIII", 2, 256, 4, 1, 4000, 257, 4, 1, 3000, 0)
    whole = tiff_of(GREY, 1, more={330: (4, (0,))})
    place = struct.pack("<HHII", 330, 4, 1, 0)
    assert whole.count(place) == 1
    raw = whole.replace(place, struct.pack("<HHII", 330, 4, 1, len(whole))) + inner
    assert refusal(raw).startswith("camera raw.")
    smaller = raw.replace(struct.pack("<I", 4000), struct.pack("<I", 1)).replace(struct.pack("<I", 3000), bytes(4))
    assert codec.decode(smaller, 100).shape == (2, 4, 3)


@pytest.mark.parametrize("missing", [256, 257, 273])
def test_a_directory_without_size_or_place_is_damaged(missing: int) -> None:
    whole = tiff_of(GREY, 1)
    entry = whole.index(struct.pack("<HH", missing, 4))
    with pytest.raises(codec.CorruptImageError):
        codec.decode(whole[:entry] + b"\xfe\xff" + whole[entry + 2 :], 100)


@pytest.mark.parametrize("hint", [{274: (2, (54, 0))}, {274: (5, (6, 1))}, {274: (SHORT, (9,))}, {266: (SHORT, (0,))}])
def test_a_damaged_hint_refuses_no_picture(hint: Tags) -> None:
    assert decoded(tiff_of(GREY[:1], 1, 2, more=hint)) == greys([0, 85, 170, 255])


@pytest.mark.parametrize("compression", PACKERS)
def test_a_file_cut_anywhere_is_damaged(compression: int) -> None:
    whole = tiff_of(np.arange(900, dtype=np.uint8).reshape(15, 20, 3), 2, compression=compression, rows=4)
    for end in range(8, len(whole) - 4, 17):
        with pytest.raises(codec.CorruptImageError):
            codec.decode(whole[:end], 1000)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("count", "refused"), [(60_000, False), (70_000, True), (1 << 32, True)])
def test_tiles_are_counted_in_every_kind_of_tiff(order: str, large: bool, count: int, refused: bool) -> None:
    """As the tag says; their places are not in the file."""
    tags = {256: 99, 257: 99, 258: 8, 262: 1, 277: 1, 322: 112, 323: 112}
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if large else 42)
    start += struct.pack(order + ("HHQQ" if large else "IH"), *((8, 0, 16, 8) if large else (8, 8)))
    form = order + ("HHQQ" if large else "HHII")
    entries = [
        struct.pack(form[:-1], tag, 4, 1) + struct.pack(order + ("I4x" if large else "I"), number)
        for tag, number in tags.items()
    ]
    most = min(count, (1 << (64 if large else 32)) - 1)
    file = start + b"".join(entries) + struct.pack(form, 324, 4, most, 8)
    with pytest.raises(codec.CorruptImageError) as found:
        codec.decode(file, 1_000_000)
    assert ("more than 66000 strips or tiles" in str(found.value)) is refused

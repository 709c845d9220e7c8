"""Every kind of PNG exactly, whatever stands around its pixels; damage is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from tests.model.interface.formats.pngs import KINDS, START, chunk, header, png, samples, shown, stored
from tests.model.interface.pictures import encoded, gradient

LIMIT = 1_000_000
SAMPLES = samples(13, 11, 2, 8)
WANTED = shown(SAMPLES, 2, 8)
EXIF = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"
PACKED = zlib.compress(stored(SAMPLES, 8))


def parts(*chunks: bytes) -> bytes:
    """A file of chunks behind a header of 13 x 11 RGB."""
    return START + header(13, 11, 2, 8) + b"".join(chunks)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colours", "bits"), KINDS)
def test_every_kind_is_exact(colours: int, bits: int, interlaced: bool) -> None:
    for height, width in ((1, 1), (1, 2), (2, 1), (3, 5), (8, 8), (13, 11), (33, 47), (1, 40), (40, 1)):
        stored_as = samples(height, width, colours, bits)
        content = png(stored_as, colours, bits, interlaced)
        assert np.array_equal(codec.decode(content, LIMIT), shown(stored_as, colours, bits)), (height, width)


def test_sixteen_bits_are_rounded_and_not_cut() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for colours, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        pixels = codec.decode(png(np.repeat(values[..., None], channels, 2), colours, 16), LIMIT)
        assert np.array_equal(pixels, np.repeat(((values.astype(np.uint32) + 128) // 257)[..., None], 3, 2))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_colours_are_shown(bits: int) -> None:
    stored_as = samples(13, 11, 3, bits)
    content = png(stored_as, 3, bits, behind=chunk(b"tRNS", b"\0\x80"))
    assert np.array_equal(codec.decode(content, LIMIT), shown(stored_as, 3, bits))


ANCILLARY = "cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST tRNS pHYs sPLT eXIf tIME tEXt zTXt iTXt"
ANCILLARY += " acTL fcTL fdAT oFFs pCAL sCAL gIFg gIFx gIFt sTER dSIG iDOT vpAg caNv orNT prVt aBCd"
BOMB = zlib.compress(bytes(20_000_000), 9)


@pytest.mark.parametrize("kind", ANCILLARY.split())
def test_no_ancillary_chunk_refuses_a_picture(kind: str) -> None:
    name = kind.encode()
    contents = [
        b"",
        b"\0",
        b"\0" * 3,
        b"x\0\0",
        b"x\0\7" + PACKED,
        b"x\0\0noise",
        b"x\0\1\0\0\0" + BOMB,
        b"x\0\0" + BOMB,
    ]
    contents += [b"\xff" * size for size in (4, 8, 9, 13, 26, 32, 70_000)] + [bytes(26), bytes(8), b"x" * 100]
    for content in contents:
        for sound in (True, False):
            broken = chunk(name, content, sound)
            for before, behind in ((broken, b""), (b"", broken), (broken * 3, broken * 2)):
                assert np.array_equal(codec.decode(png(SAMPLES, 2, 8, False, before, behind), LIMIT), WANTED)
        between = parts(chunk(b"IDAT", PACKED[:50]), chunk(name, content), chunk(b"IDAT", PACKED[50:]), chunk(b"IEND"))
        assert np.array_equal(codec.decode(between, LIMIT), WANTED)


def test_a_palette_of_a_picture_that_needs_none_is_a_hint() -> None:
    for content in (b"", b"\0", bytes(3), bytes(3 * 256), bytes(3000)):
        for sound in (True, False):
            hint = chunk(b"PLTE", content, sound)
            assert np.array_equal(codec.decode(png(SAMPLES, 2, 8, False, hint, hint), LIMIT), WANTED)


@pytest.mark.parametrize(
    "name",
    ["lacks its end", "cut in its end", "zeros for its end", "more behind its end", "empty pieces", "one piece"],
)
def test_all_pixels_are_enough(name: str) -> None:
    pixels = chunk(b"IDAT", PACKED)
    content = {
        "lacks its end": parts(pixels),
        "cut in its end": parts(pixels, chunk(b"IEND")[:5]),
        "zeros for its end": parts(pixels, bytes(100)),
        "more behind its end": parts(pixels, chunk(b"IEND"), bytes(999), png(SAMPLES, 2, 8)),
        "empty pieces": parts(chunk(b"IDAT"), pixels, chunk(b"IDAT"), chunk(b"IEND")),
        "one piece": parts(*(chunk(b"IDAT", PACKED[i : i + 1]) for i in range(len(PACKED))), chunk(b"IEND")),
    }[name]
    assert np.array_equal(codec.decode(content, LIMIT), WANTED)


def test_an_animation_shows_its_still_picture() -> None:
    frames = [Image.new("RGB", (9, 7), (i, 2 * i, 9)) for i in (10, 60, 120)]
    for default in (False, True):
        content = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=default)
        assert codec.decode(content, LIMIT)[0, 0].tolist() == [10, 20, 9]


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_turns_a_picture_and_nothing_else_does(orientation: int) -> None:
    block = EXIF.replace(b"\6\0\0\0", bytes([orientation]) + b"\0\0\0")
    wanted = np.rot90(WANTED, -1) if orientation == 6 else WANTED
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/>'
    raw = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      28\n" + (b"Exif\0\0" + EXIF).hex().encode())
    others = chunk(b"iTXt", xmp) + chunk(b"zTXt", raw) + chunk(b"eXIf", EXIF, sound=False)
    for exif in (block, b"Exif\0\0" + block):
        right = chunk(b"eXIf", exif)
        for before, behind in ((others + right, b""), (others, right), (right + chunk(b"eXIf", b"noise"), others)):
            assert np.array_equal(codec.decode(png(SAMPLES, 2, 8, False, before, behind), LIMIT), wanted)


DAMAGED = {
    "header with a wrong checksum": START + chunk(b"IHDR", header(13, 11, 2, 8)[8:21], False) + chunk(b"IDAT", PACKED),
    "short header": START + chunk(b"IHDR", header(13, 11, 2, 8)[8:20]) + chunk(b"IDAT", PACKED),
    "no header": START + chunk(b"IDAT", PACKED),
    "nothing": START,
    "two headers": parts(header(13, 11, 2, 8), chunk(b"IDAT", PACKED)),
    "kind 5": START + header(13, 11, 5, 8) + chunk(b"IDAT", PACKED),
    "RGB of 4 bits": START + header(13, 11, 2, 4) + chunk(b"IDAT", PACKED),
    "pixels with a wrong checksum": parts(chunk(b"IDAT", PACKED, False), chunk(b"IEND")),
    "pixels with a wrong sum inside": parts(chunk(b"IDAT", PACKED[:-1] + bytes([PACKED[-1] ^ 1])), chunk(b"IEND")),
    "no pixels": parts(chunk(b"IEND")),
    "too few pixels": parts(chunk(b"IDAT", PACKED[: len(PACKED) // 2]), chunk(b"IEND")),
    "cut in its pixels": parts(chunk(b"IDAT", PACKED)[:-40]),
    "fewer rows, which end well": parts(chunk(b"IDAT", zlib.compress(stored(SAMPLES[:12], 8))), chunk(b"IEND")),
    "no row at all": parts(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND")),
    "an unknown filter": parts(chunk(b"IDAT", zlib.compress(b"\5" + stored(SAMPLES, 8)[1:])), chunk(b"IEND")),
    "no palette": START + header(13, 11, 3, 8) + chunk(b"IDAT", zlib.compress(bytes(13 * 12))),
    "an unknown part that is damaged": parts(chunk(b"ABCD", b"", False), chunk(b"IDAT", PACKED)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused(name: str) -> None:
    with pytest.raises(codec.CorruptImageError):
        codec.decode(DAMAGED[name], LIMIT)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colours", "bits"), KINDS)
def test_pixels_that_end_early_at_a_row_are_damage_and_black_ones_are_not(
    colours: int, bits: int, interlaced: bool
) -> None:
    for fill in (0, 77, 255, 0x4DFE, (1 << bits) - 1):
        stored_as = np.full_like(samples(7, 9, colours, bits), fill & ((1 << bits) - 1))
        content = png(stored_as, colours, bits, interlaced)
        assert np.array_equal(codec.decode(content, LIMIT), shown(stored_as, colours, bits))
        place, behind = content.index(b"IDAT") - 4, len(content) - 12
        whole = stored(stored_as, bits, interlaced)
        last = len(whole) // 7 if not interlaced else 1 + (9 * bits * stored_as.shape[2] + 7) // 8
        short = content[:place] + chunk(b"IDAT", zlib.compress(whole[:-last])) + content[behind:]
        with pytest.raises(codec.CorruptImageError):
            codec.decode(short, LIMIT)


def test_what_only_apple_reads_is_told_by_name() -> None:
    content = START + chunk(b"CgBI", bytes(4)) + parts(chunk(b"IDAT", PACKED[2:]))[8:]
    with pytest.raises(codec.UnsupportedImageError, match=r"This kind of PNG is not supported: Apple's .*CgBI"):
        codec.decode(content, LIMIT)


def test_what_a_decoder_must_know_and_does_not_is_told_by_name() -> None:
    with pytest.raises(codec.UnsupportedImageError, match=r"This kind of PNG is not supported: .*\(ABCD\)"):
        codec.decode(parts(chunk(b"ABCD", b"x"), chunk(b"IDAT", PACKED)), LIMIT)


def test_a_picture_of_many_pieces_is_that_of_one() -> None:
    image = gradient(300, 200)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(image)), 0)
    pieces = b"".join(chunk(b"IDAT", packed[i : i + 8192]) for i in range(0, len(packed), 8192))
    content = START + header(200, 300, 2, 8) + pieces + chunk(b"IEND")
    assert struct.unpack(">I", content[33:37]) == (8192,)
    assert np.array_equal(codec.decode(content, LIMIT), np.asarray(Image.open(io.BytesIO(content))))

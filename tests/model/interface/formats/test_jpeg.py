"""JPEG at once, the pixels of Pillow."""

import io
import re
import struct

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats import jpeg
from model.interface.formats.errors import CorruptImageError
from model.interface.panoptic import Pixels
from tests.model.interface.pictures import encoded, gradient

LIMIT = 1_000_000


def at_once(content: bytes) -> Pixels | None:
    return jpeg.decode_at_once(content, jpeg._frame(content))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{"subsampling": k} for k in range(3)] + [{"progressive": True}, {"keep_rgb": True}]
)
def test_sound_jpegs_are_decoded_at_once_and_as_pillow_does(mode: str, options: dict[str, object]) -> None:
    if mode == "CMYK" and options.get("subsampling"):
        pytest.skip("left to Pillow")
    for width, height in ((1, 1), (17, 9), (64, 33)):
        content = encoded(gradient(width, height).convert(mode), "JPEG", quality=85, **options)
        pixels = at_once(content)
        assert pixels is not None
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_damaged_jpegs_come_out_as_pillow_has_them() -> None:
    sound = encoded(gradient(64, 48), "JPEG", quality=90)
    rng = np.random.default_rng(0)
    left = 0
    for _ in range(200):
        content = bytearray(sound)
        place = int(rng.integers(2, len(content) - 20))
        content[place : place + 8] = rng.bytes(8)
        try:
            image = Image.open(io.BytesIO(content), formats=["JPEG"])
            wanted = np.asarray(image.convert("RGB"))
            pixels = codec.decode(bytes(content), LIMIT)
        except Exception:
            continue
        left += at_once(bytes(content)) is None
        assert np.array_equal(pixels, wanted)
    assert left > 20


def frame_place(content: bytes) -> int:
    """Where the marker of the picture's header is."""
    return next(place for sof in (b"\xff\xc0", b"\xff\xc2") if (place := content.find(sof + b"\0")) >= 0)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content


SOUND = encoded(gradient(64, 48), "JPEG", quality=90)
EXIF = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"
XMP = b'http://ns.adobe.com/xap/1.0/\0<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
NOISE = bytes(range(256)) * 255
BROKEN = {
    "empty": b"",
    "a byte": b"\0",
    "EXIF": b"Exif\0\0",
    "EXIF of noise": b"Exif\0\0" + NOISE,
    "EXIF cut short": EXIF[:20],
    "EXIF whose directory is far away": EXIF[:10] + b"\xff\xff\xff\x7f" + EXIF[14:],
    "XMP that turns": XMP,
    "XMP, extended": b"http://ns.adobe.com/xmp/extension/\0" + NOISE[:60_000],
    "a profile without its other pieces": b"ICC_PROFILE\0\3\7" + NOISE[:60_000],
    "a profile of piece 0 of 0": b"ICC_PROFILE\0\0\0",
    "a profile's start": b"ICC_PROFILE\0",
    "multiple pictures": b"MPF\0II*\0" + NOISE[:1000],
    "multiple pictures of nothing": b"MPF\0",
    "Photoshop": b"Photoshop 3.0\x008BIM\4\4\0\0\xff\xff\xff\xff" + NOISE[:100],
    "JFIF of another version": b"JFIF\0\xff\xff\7" + bytes(7),
    "JFIF cut short": b"JFIF\0",
    "JFXX": b"JFXX\0\x13" + NOISE[:99],
    "markers": b"\xff\xd9\xff\xd8\xff\xda\xff\xc0" * 9,
    "noise": NOISE,
}


@pytest.mark.parametrize("marker", [*range(0xE0, 0xEE), 0xEF, 0xFE], ids=hex)
def test_segments_of_applications_and_comments_refuse_nothing_and_turn_nothing(marker: int) -> None:
    """All but Adobe's, 0xEE, which says what the colours are."""
    wanted = codec.decode(SOUND, LIMIT)
    for name, content in BROKEN.items():
        for count in (1, 2, 40):
            broken = SOUND[:2] + segment(marker, content) * count + SOUND[2:]
            assert np.array_equal(codec.decode(broken, LIMIT), wanted), name
        behind = frame_place(SOUND)
        assert np.array_equal(codec.decode(SOUND[:behind] + segment(marker, content) + SOUND[behind:], LIMIT), wanted)
    for length in (b"\0\0", b"\0\1"):  # shorter than itself
        assert np.array_equal(codec.decode(SOUND[:2] + bytes([255, marker]) + length + SOUND[2:], LIMIT), wanted)


def test_the_first_exif_turns_and_no_other() -> None:
    wanted = codec.decode(SOUND, LIMIT)
    upright = EXIF.replace(b"\6\0\0\0", b"\1\0\0\0")
    for blocks, turns in (([EXIF], True), ([XMP, EXIF], True), ([upright, EXIF], False), ([EXIF, upright], True)):
        content = SOUND[:2] + b"".join(segment(0xE1, block) for block in blocks) + SOUND[2:]
        assert np.array_equal(codec.decode(content, LIMIT), np.rot90(wanted, -1) if turns else wanted)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [{"subsampling": 0}, {"progressive": True, "subsampling": 0}, {"restart_marker_blocks": 3, "subsampling": 0}],
)
@pytest.mark.parametrize(
    "tail",
    [b"", b"\xff", b"\0", bytes(5000), b"\xff" * 9, b"\xff\0\0"],
    ids=["none", "half", "0", "zeros", "fill", "half and zeros"],
)
def test_a_jpeg_that_lacks_its_end_alone_is_a_picture(mode: str, options: dict[str, object], tail: bytes) -> None:
    for seed in range(20):  # among others, whose last byte is 255
        noise = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), np.uint8)
        whole = encoded(Image.fromarray(noise).convert(mode), "JPEG", quality=80, **options)
        assert np.array_equal(codec.decode(whole[:-2] + tail, LIMIT), codec.decode(whole, LIMIT))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(3000)], ids=["cut", "a half marker", "zeros"])
def test_a_jpeg_that_lacks_a_block_is_damaged(options: dict[str, object], tail: bytes) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG", quality=80, **options)
    wanted = codec.decode(whole, LIMIT)
    for length in range(len(whole) - 3, 20, -7):
        try:
            pixels = codec.decode(whole[:length] + tail, LIMIT)
        except codec.CorruptImageError:
            continue
        assert length > len(whole) - 5, length  # a byte that only fills up the last
        assert np.array_equal(pixels, wanted)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 3}])
def test_an_end_that_comes_too_early_is_damage(mode: str, options: dict[str, object]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8)
    whole = encoded(Image.fromarray(noise).convert(mode), "JPEG", quality=80, **options)
    start = whole.index(b"\xff\xda")
    cuts = [start + (len(whole) - start) * part // 8 for part in range(3, 8)]
    cuts += [start + found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", whole[start:])]
    for cut in cuts:
        with pytest.raises(codec.CorruptImageError):
            codec.decode(whole[:cut].removesuffix(b"\xff") + b"\xff\xd9", LIMIT)
    taller = whole.replace(struct.pack(">HH", 24, 40), struct.pack(">HH", 48, 40), 1)
    with pytest.raises(codec.CorruptImageError):
        codec.decode(taller, LIMIT)


def test_a_progressive_jpeg_cut_between_scans_is_damaged() -> None:
    whole = encoded(gradient(64, 48), "JPEG", progressive=True)
    cuts = [place for place in range(len(whole)) if whole.startswith(b"\xff\xda", place)]
    assert len(cuts) > 5
    for place in cuts:
        with pytest.raises(codec.CorruptImageError):
            codec.decode(whole[:place], LIMIT)


@pytest.mark.parametrize("behind", [b"\0" * 9, b"\xff", b"\r\n", b"noise", SOUND, NOISE])
def test_what_is_behind_the_end_does_not_matter(behind: bytes) -> None:
    assert np.array_equal(codec.decode(SOUND + behind, LIMIT), codec.decode(SOUND, LIMIT))


def changed(
    marker: int = 0xC0, bits: int = 8, components: int = 3, height: int = 48, sampling: tuple[int, ...] = (17,) * 9
) -> bytes:
    """The header of a sound JPEG, changed; what follows does not fit it."""
    place = frame_place(SOUND)
    size = int.from_bytes(SOUND[place + 2 : place + 4])
    head = struct.pack(">BHHB", bits, height, 64, components) + b"".join(
        bytes([i, sampling[i], 0]) for i in range(components)
    )
    return SOUND[:place] + segment(marker, head) + SOUND[place + 2 + size :]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (changed(bits=12), "12 bits a sample"),
        (changed(0xC1, bits=12), "12 bits a sample"),
        (changed(0xC2, bits=12), "12 bits a sample"),
        (changed(0xC3, bits=16), "16 bits a sample"),
        (changed(0xC3, bits=10), "10 bits a sample"),
        (changed(0xC5), "hierarchical"),
        (changed(0xC6), "hierarchical"),
        (changed(0xC7), "hierarchical"),
        (changed(0xCB), "lossless with arithmetic coding"),
        (changed(0xCD), "hierarchical"),
        (changed(0xCE), "hierarchical"),
        (changed(0xCF), "hierarchical"),
        (changed(0xF7), "JPEG-LS"),
        (changed(components=2), "2 components"),
        (changed(components=5), "5 components"),
        (changed(sampling=(0x31, 0x21, 0x11)), "ratio such as 2 to 3"),
        (changed(sampling=(0x12, 0x13, 0x11)), "ratio such as 2 to 3"),
        (changed(height=0) + b"\xff\xdc\0\4\0\x30", "DNL"),
    ],
)
def test_kinds_that_are_not_decoded_are_told_by_name(content: bytes, kind: str) -> None:
    with pytest.raises(codec.UnsupportedImageError, match=f"This kind of JPEG is not supported: .*{kind}"):
        codec.decode(content, LIMIT)


@pytest.mark.parametrize(
    "content",
    [
        SOUND[:3],
        SOUND[:20],
        changed(sampling=(0x01, 0x11, 0x11)),
        changed(bits=0),
        changed(bits=200),
        changed(height=0),
        b"\xff\xd8\xff\xd9",
    ],
)
def test_a_header_that_no_jpeg_has_is_damage(content: bytes) -> None:
    with pytest.raises(codec.CorruptImageError):
        codec.decode(content, LIMIT)


def test_four_components_are_inverted_with_adobes_word_and_without() -> None:
    picture = gradient(16, 8).convert("CMYK")
    with_word = encoded(picture, "JPEG", quality=95, subsampling=0)
    place = with_word.index(b"\xff\xee")
    without = with_word[:place] + with_word[place + 2 + int.from_bytes(with_word[place + 2 : place + 4]) :]
    wanted = np.asarray(picture.convert("RGB")).astype(int)
    for content in (with_word, without):
        assert abs(codec.decode(content, LIMIT) - wanted).max() < 40


def test_empty_scans_of_a_progressive_jpeg_are_work() -> None:
    whole = encoded(gradient(64, 48), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    longer = whole[:last] + whole[last:-2] * 40 + whole[-2:]
    pixels = 64 * 48
    assert codec.OpenImage(whole, LIMIT).work == 2 * pixels + len(whole)
    assert codec.OpenImage(longer, LIMIT).work > 5 * pixels + len(longer)


def test_progressive_jpegs_inside_another_file_are_work() -> None:
    whole = encoded(gradient(64, 48), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    assert jpeg.passes_inside(encoded(gradient(64, 48), "JPEG") * 30) == 1
    assert jpeg.passes_inside(whole[:last] + whole[last:-2] * 40) == 1 + (40 + whole[:last].count(b"\xff\xda")) // 8
    assert jpeg.passes_inside(whole * 1000) == 1 + 100 // 8


def test_only_a_jpeg_of_the_rows_that_are_wanted_is_looked_at_for_missing_blocks() -> None:
    whole = encoded(gradient(64, 48), "JPEG")
    for sound in (whole, whole[:-2]):
        jpeg.check_blocks(sound, 48)
    with pytest.raises(CorruptImageError):
        jpeg.check_blocks(whole[: len(whole) * 3 // 4], 48)
    jpeg.check_blocks(whole[: len(whole) * 3 // 4], 47)
    jpeg.check_blocks(b"no jpeg", 47)

"""libwebp without Pillow's canvases gives Pillow's pixels, and leaves to it what is not sound."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats import webp
from model.interface.panoptic import Pixels

LIMIT = 1_000_000
KINDS: list[dict[str, Any]] = [
    {"lossless": True},
    {"lossless": True, "exact": True},
    {"quality": 70},
    {"quality": 10, "alpha_quality": 20},
]


def at_once(content: bytes) -> Pixels | None:
    return webp.decode_at_once(webp._parts(content).frame)


def noise(mode: str, number: int = 0) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (37, 53, len(mode)), np.uint8)
    return Image.fromarray(pixels).resize((211, 307))


def saved(frames: list[Image.Image], **options: Any) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("frames", [1, 3])
def test_pixels_are_those_of_pillow(
    frames: int, mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved([noise(mode, number) for number in range(frames)], **options)
    wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(codec.decode(content, LIMIT), wanted)
    assert at_once(content) is not None
    monkeypatch.setattr(webp, "_libwebp", lambda: None)  # where Pillow hides it
    assert np.array_equal(codec.decode(content, LIMIT), wanted)


def test_a_first_frame_that_does_not_fill_the_canvas_lies_on_black() -> None:
    content = bytearray(saved([noise("RGB", number) for number in range(2)], lossless=True))
    place = content.index(b"ANMF") + 8
    content[place : place + 3] = (1).to_bytes(3, "little")  # two pixels to the right
    content[24:27] = struct.pack("<I", 300)[:3]  # on a canvas of 301 pixels
    pixels = codec.decode(bytes(content), LIMIT)
    assert pixels.shape == (307, 301, 3)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert pixels[:, :2].max() == 0
    assert np.array_equal(pixels[:, 2:213], np.asarray(noise("RGB")))


def test_a_frame_that_hangs_over_the_canvas_is_damage() -> None:
    content = bytearray(saved([noise("RGB", number) for number in range(2)], lossless=True))
    place = content.index(b"ANMF") + 8
    content[place : place + 3] = (1).to_bytes(3, "little")
    with pytest.raises(codec.CorruptImageError):
        codec.decode(bytes(content), LIMIT)


def test_a_picture_smaller_than_its_frame_is_not_decoded_into_memory_that_was_someone_elses() -> None:
    content = bytearray(saved([noise("RGB", number) for number in range(2)], lossless=True))
    place = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[place : place + 4], "little")
    content[place : place + 4] = (bits & ~0x3FFF | 99).to_bytes(4, "little")  # its own width is 100 now
    with pytest.raises(codec.CorruptImageError):
        codec.decode(bytes(content), LIMIT)


def riff(*parts: tuple[bytes, bytes], size: int | None = None) -> bytes:
    """A WebP of chunks."""
    chunks = b"".join(k + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for k, c in parts)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4 if size is None else size) + b"WEBP" + chunks


def picture(options: dict[str, Any] = KINDS[0]) -> tuple[bytes, bytes]:
    """The chunk of the pixels of a still picture."""
    content = saved([noise("RGB")], **options)
    kind = b"VP8L" if b"VP8L" in content else b"VP8 "
    place = content.index(kind)
    return kind, content[place + 8 : place + 8 + int.from_bytes(content[place + 4 : place + 8], "little")]


def extended(flags: int, width: int = 211, height: int = 307) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


TURNED = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"
XMP = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
AROUND = {
    "EXIF of noise": [(b"EXIF", bytes(range(256)))],
    "empty EXIF": [(b"EXIF", b"")],
    "short EXIF": [(b"EXIF", TURNED[:12])],
    "XMP that turns": [(b"XMP ", XMP)],
    "XMP of a megabyte": [(b"XMP ", b"\xff" * 1_000_001)],
    "EXIF of a megabyte": [(b"EXIF", b"\xff" * 1_000_001)],
    "unknown": [(b"abcd", b"odd")],
    "alpha of noise": [(b"ALPH", bytes(range(256)))],
}


@pytest.mark.parametrize("options", [KINDS[0], KINDS[2]], ids=["lossless", "lossy"])
@pytest.mark.parametrize("name", AROUND)
def test_what_stands_around_a_picture_does_not_refuse_it(name: str, options: dict[str, Any]) -> None:
    shown = picture(options)
    wanted = codec.decode(riff(shown), LIMIT)
    for parts in ([extended(0x3C), *AROUND[name], shown], [extended(0x3C), shown, *AROUND[name]]):
        assert np.array_equal(codec.decode(riff(*parts), LIMIT), wanted)
    profile = (b"ICCP", b"\xff" * 999_999)
    assert np.array_equal(codec.decode(riff(extended(0x3C), profile, shown, *AROUND[name]), LIMIT), wanted)


@pytest.mark.parametrize("options", [KINDS[0], KINDS[2]], ids=["lossless", "lossy"])
def test_the_size_that_riff_says_and_what_follows_do_not_matter(options: dict[str, Any]) -> None:
    shown = picture(options)
    wanted = codec.decode(riff(shown), LIMIT)
    for size in (0, 4, 12, 100, len(shown[1]) + 13, 1 << 30, (1 << 32) - 1):
        assert np.array_equal(codec.decode(riff(shown, size=size), LIMIT), wanted)
    for behind in (b"\0", b"\r\n", bytes(1000), b"\xff" * 9, riff(shown)):
        assert np.array_equal(codec.decode(riff(shown) + behind, LIMIT), wanted)


def test_exif_turns_a_picture_where_it_is_announced() -> None:
    shown = picture()
    wanted = codec.decode(riff(shown), LIMIT)
    turned = codec.decode(riff(extended(8), shown, (b"EXIF", TURNED)), LIMIT)
    assert np.array_equal(turned, np.rot90(wanted, -1))
    prefixed = codec.decode(riff(extended(8), shown, (b"EXIF", b"Exif\0\0" + TURNED), (b"EXIF", b"")), LIMIT)
    assert np.array_equal(prefixed, turned)
    assert np.array_equal(codec.decode(riff(extended(0), shown, (b"EXIF", TURNED)), LIMIT), wanted)


@pytest.mark.parametrize(
    "content",
    [
        riff(),
        riff(extended(0)),
        riff(extended(0, 9, 9), picture()),
        riff((b"VP8 ", b"noise")),
        riff((b"VP8L", b"")),
        riff((b"ANMF", bytes(16))),
        riff(picture())[:-60],
    ],
    ids=["empty", "only a canvas", "another canvas", "noise", "no pixels", "an empty frame", "cut"],
)
def test_without_a_whole_picture_it_is_damaged(content: bytes) -> None:
    with pytest.raises(codec.CorruptImageError):
        codec.decode(content, LIMIT)


def test_damaged_files_come_out_as_pillow_has_them() -> None:
    rng = np.random.default_rng(0)
    for options in KINDS:
        sound = saved([noise("RGB")], **options)
        for _ in range(40):
            content = bytearray(sound)
            place = int(rng.integers(12, len(content) - 8))
            content[place : place + 8] = rng.bytes(8)
            try:
                wanted = np.asarray(Image.open(io.BytesIO(content), formats=["WEBP"]).convert("RGB"))
            except Exception:
                wanted = None
            try:
                found = codec.decode(bytes(content), 1_000_000)
            except codec.ImageError:
                found = None
            assert (wanted is None) == (found is None)
            assert wanted is None or np.array_equal(found, wanted)

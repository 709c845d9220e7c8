"""Bytes in, pixels out, and every way it can go wrong."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.interface import codec
from tests.ids import ids_to_rgb
from tests.model.interface.pictures import encoded, gradient
from tests.paths import SHARED

LIMIT = 1_000_000


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    assert np.array_equal(codec.decode(encoded(gradient(), form, **options), LIMIT), np.asarray(gradient()))


@pytest.mark.parametrize("shape", [(17, 31), (1, 1), (200, 1), (1, 200), (17, 31, 3)])
def test_a_large_map_is_compressed_in_bands_to_the_same_pixels(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, shape, np.uint8)
    monkeypatch.setattr(codec, "BAND_PIXELS", 70)
    found = np.asarray(Image.open(io.BytesIO(codec.encode_png(pixels))))
    assert np.array_equal(found, pixels if pixels.ndim == 3 else ids_to_rgb(pixels))


def test_sixteen_bit_grey_is_divided_by_257() -> None:
    grey = np.array([[0, 257, 65535, 128, 129]], np.uint16)
    pixels = codec.decode(encoded(Image.fromarray(grey), "PNG"), LIMIT)
    assert pixels[0, :, 0].tolist() == [0, 1, 255, 0, 1]
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_alpha_is_dropped_and_a_transparent_palette_expanded() -> None:
    rgba = Image.new("RGBA", (2, 1), (9, 8, 7, 0))
    assert codec.decode(encoded(rgba, "PNG"), LIMIT).tolist() == [[[9, 8, 7], [9, 8, 7]]]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 50, 60, 70])
    assert codec.decode(encoded(palette, "PNG", transparency=b"\0\x80"), LIMIT).tolist() == [[[50, 60, 70]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_as_pillow_does(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    content = encoded(gradient(), "PNG", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(codec.decode(content, LIMIT), wanted)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (3, 3), (i, i, i)) for i in (10, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert codec.decode(content, LIMIT)[0, 0].tolist() == [10, 10, 10]


def test_the_size_is_refused_by_the_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + codec._chunk(b"IHDR", header) + codec._chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    with pytest.raises(codec.ImageTooLargeError, match=r"60000 x 60000 = 3600\.0 Mpx; the limit is 40 Mpx"):
        codec.decode(bomb, 40_000_000)


def test_a_side_is_refused_by_its_own_limit() -> None:
    header = struct.pack(">IIBBBBB", 70_000, 2, 8, 2, 0, 0, 0)
    with pytest.raises(codec.ImageTooLargeError, match=r"^Image is 70000 x 2; the limit is 65535 pixels a side\."):
        codec.decode(b"\x89PNG\r\n\x1a\n" + codec._chunk(b"IHDR", header), 40_000_000)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_turns_nothing(form: str) -> None:
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options: dict[str, object] = {"PNG": {"pnginfo": info}, "TIFF": {"tiffinfo": {700: xmp}}}.get(form, {"xmp": xmp})
    content = encoded(gradient(8, 6), form, **options)
    assert b"Orientation" in content
    assert codec.decode(content, LIMIT).shape == (6, 8, 3)


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.7", b"<svg/>", b"\0" * 100])
def test_other_formats_are_unsupported(content: bytes) -> None:
    with pytest.raises(codec.UnsupportedImageError):
        codec.decode(content, LIMIT)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_every_truncation_is_refused_or_decoded_whole(form: str) -> None:
    content = encoded(gradient(40, 30), form)
    for length in range(0, len(content) - 1, max(len(content) // 40, 1)):
        try:
            assert codec.decode(content[:length], LIMIT).shape == (30, 40, 3)
        except codec.ImageError:
            continue


@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"]), st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_no_bytes_raise_anything_but_an_image_error(noise: bytes, form: str, place: int) -> None:
    content = bytearray(encoded(gradient(20, 15), form))
    content[place : place + len(noise)] = noise
    try:
        pixels = codec.decode(bytes(content), LIMIT)
    except codec.ImageError as error:
        assert str(error).endswith(".")
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_png_writer_is_exact(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    image = Image.open(io.BytesIO(codec.encode_png(pixels, {"panoptic": '{"a": "ä"}'})))
    assert np.array_equal(np.asarray(image), pixels)
    assert image.text["panoptic"] == '{"a": "ä"}'
    ids = rng.integers(0, 200, (height, width), np.uint8)
    read = np.asarray(Image.open(io.BytesIO(codec.encode_png(ids))))
    assert np.array_equal(read, ids_to_rgb(ids))


@pytest.mark.skipif(not (SHARED / "data/photos").is_dir(), reason="no photos: name their folder in UPSNET_SHARED")
def test_the_photos_are_treated_as_their_manifest_says() -> None:
    folder = SHARED / "data/photos"
    for entry in json.loads((folder / "manifest.json").read_text()):
        allowed = str(entry["status"]).split("|")
        try:
            height, width = codec.decode((folder / entry["file"]).read_bytes(), 40_000_000).shape[:2]
        except codec.ImageError:
            assert allowed != ["200"], entry["file"]
        else:
            assert "200" in allowed, entry["file"]
            assert [width, height] == entry["expect_size"], entry["file"]

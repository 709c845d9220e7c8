"""A few hundred images that are not what they say, straight through the codec."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.interface import codec
from model.interface.formats import claims
from tests.model.interface.formats.tiff_files import SHORT, tiff_of
from tests.paths import ROOT
from tests.service import seams
from tests.service.hostile import Named, cuts, fixed, hostile, modes, samples, saved, scene

MAX_PIXELS = 2_000_000
BYTES_A_PIXEL = 32
"""Measured: 21 for what costs most, an animated WebP or 32-bit grey."""
PROGRAM = """
import sys, time
from model.interface import codec

def peak():  # ru_maxrss would begin with that of the parent
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def decode(content):
    try:
        height, width, channels = codec.decode(content, int(sys.argv[1])).shape
        assert height * width <= int(sys.argv[1]) and channels == 3
    except codec.ImageError as error:
        assert str(error).endswith(".")

before, slowest, count = 0, 0.0, 0
while size := sys.stdin.buffer.read(4):
    content = sys.stdin.buffer.read(int.from_bytes(size))
    count += 1
    before = before or peak()
    began = time.process_time()
    decode(content)
    slowest = max(slowest, time.process_time() - began)
print(count, peak() - before, slowest)
"""


def full_size() -> list[bytes]:
    """As many pixels as are allowed, in what costs decoders most."""
    size = 2000, MAX_PIXELS // 2000
    forms = [("I;16", "PNG"), ("RGBA", "PNG"), ("CMYK", "TIFF"), ("PA", "TIFF")]
    files = [saved(Image.new(mode, size), form) for mode, form in forms]
    files.append(saved(Image.new("P", size), "PNG", transparency=0))
    deep = np.random.default_rng(0).integers(0, 65536, (size[1], size[0], 4), np.uint16)
    multiplied = {338: (SHORT, (1,))}
    files += [tiff_of(deep, 2, 16, compression=kind, more=multiplied) for kind in (1, 8)]
    files.append(tiff_of(deep, 2, 16, planar=True, compression=8, rows=64, predictor=2, more=multiplied))
    frames = [Image.new("RGBA", size, (i, 0, 0, i)) for i in (9, 200)]
    return [*files, saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux' /proc")
def test_hostile_images_are_refused_or_decoded_in_bounded_memory_and_time() -> None:
    """In a process of its own, whose peak is that of these images; the first is as large a body as any of them."""
    inputs = [bytes(17_000_000), *full_size(), *(content for _, content in [*fixed()[:90], *hostile(1, 300)])]
    framed = b"".join(len(content).to_bytes(4) + content for content in inputs)
    command = [sys.executable, "-c", PROGRAM, str(MAX_PIXELS)]
    done = subprocess.run(command, cwd=ROOT, input=framed, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:].decode()
    count, kilobytes, seconds = done.stdout.split()
    print(f"\n{int(count)} images: peak +{int(kilobytes) / 1e3:.0f} MB, slowest {float(seconds):.2f} s")
    assert int(count) == len(inputs)
    assert int(kilobytes) << 10 < BYTES_A_PIXEL * MAX_PIXELS
    assert float(seconds) < 5


def refusal(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(codec.ImageError) as refused:
        codec.decode(content, max_pixels)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bomb jpeg scans", "more than 100 scans"),
        ("bomb jpeg comments", "more than 66000 parts"),
        ("bomb jpeg fill", "more than 66000 parts"),
        ("bomb png chunks", "more than 66000 parts"),
        ("bomb gif comments", "more than 66000 parts"),
        ("bomb gif comment of single bytes", "more than 66000 parts"),
        ("bomb tiff tiles of one pixel", "more than 66000 strips or tiles"),
        ("bomb tiff strips", "more than 66000 strips or tiles"),
        ("bomb tiff tags", "more than 4096 tags"),
        ("bomb tiff of the other order", "more than 66000 strips or tiles"),
        ("bomb tiff of the other order, big", "more than 66000 strips or tiles"),
        ("bomb tiff tile", "tiles of 20000 x 20000; the limit is 2 Mpx"),
        ("bomb gif frame beyond its screen", "65535 x 65535 = 4294.8 Mpx"),
    ],
)
def test_a_bomb_is_refused_for_what_it_is(name: str, reason: str) -> None:
    assert reason in refusal(dict(fixed())[name])


@pytest.mark.parametrize(
    "name", ["bomb png exif", "bomb jpeg exif", "bomb jpeg exif fractions", "bomb tiff fractions", "bomb tiff sizes"]
)
def test_absurd_tags_are_not_read(name: str) -> None:
    content = dict(fixed())[name]
    began = time.process_time()
    codec.decode(content, MAX_PIXELS)
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_ordinary_exif_is_read(form: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert codec.decode(saved(scene(23, 17), form, exif=exif), MAX_PIXELS).shape == (23, 17, 3)


def test_ordinary_files_are_far_from_the_limits() -> None:
    for name, content in samples().items():
        assert claims.excess(content) is None, name
    noise = bytes(range(256)) * 40_000
    thumbnail = b"\xff\xe1" + (40_000).to_bytes(2) + b"\xff\xda" * 19_999
    jpeg = saved(scene(), "JPEG")
    assert claims.excess(jpeg[:2] + thumbnail + jpeg[2:]) is None  # markers inside a segment are none
    assert claims.excess(jpeg + b"\xff\xda" * 200) is None  # nor those behind the picture
    assert claims.excess(b"RIFF" + noise) is None
    rows = saved(Image.new("L", (3, 65_535)), "TIFF", tiffinfo={278: 1})  # a strip a row
    assert rows.count(b"\x11\x01") and claims.excess(rows) is None


@pytest.mark.parametrize(("name", "content"), list(modes()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_mode_is_decoded_or_refused_as_a_kind(name: str, content: bytes) -> None:
    kinds = {"F": "floating-point samples", "I": "signed samples", "LAB": "L*a*b*"}
    mode, form = name.split()[1:]
    if form == "TIFF" and mode in kinds:
        assert f"This kind of TIFF is not supported: {kinds[mode]}." in refusal(content)
    else:
        assert codec.decode(content, 15).shape == (3, 5, 3)


def test_the_stream_is_its_seeds_and_holds_every_kind() -> None:
    def take(seed: int) -> list[Named]:
        return list(hostile(seed, 2500))

    once = take(3)
    assert once == take(3)
    assert [name for name, _ in once] != [name for name, _ in take(4)]
    kinds = {name.split()[0] for name, _ in take(3)}
    assert {"bomb", "lie", "type", "polyglot", "size", "mode", "cut", "flip", "overwrite", "splice"} <= kinds


def test_each_format_is_cut_at_more_points_than_its_two_ends() -> None:
    for name, content in samples().items():
        assert len(seams.of(content)) >= 5, name
        assert max(seams.of(content)) > len(content) // 8, name
    assert len(list(cuts(samples()))) > 500


@given(st.binary(max_size=300), st.sampled_from(["", *samples()]), st.data())
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_arbitrary_bytes_anywhere_raise_nothing_but_an_image_error(
    noise: bytes, name: str, data: st.DataObject
) -> None:
    whole = samples().get(name, b"")
    place = data.draw(st.sampled_from(seams.of(whole))) + data.draw(st.integers(0, 16))
    content = whole[:place] + noise + whole[place + data.draw(st.integers(0, len(noise))) :]
    try:
        height, width, channels = codec.decode(content, MAX_PIXELS).shape
    except codec.ImageError as error:
        assert str(error).endswith(".")
    else:
        assert height * width <= MAX_PIXELS
        assert channels == 3

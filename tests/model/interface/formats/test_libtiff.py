"""libtiff says nothing of a damaged file to stderr. In processes of their own, because silence lasts."""

import io
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from model.interface.formats import libtiff
from model.interface.formats.errors import CorruptImageError
from model.interface.formats.tiff_directory import Directory
from tests.model.interface.formats.tiff_files import LONG, SHORT, Tags, written
from tests.service.hostile import saved, scene

PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
from model.interface import codec
try:
    if sys.argv[2] == "pillow":
        Image.open(sys.argv[1]).load()
    else:
        codec.decode(Path(sys.argv[1]).read_bytes(), 2_000_000)
except (OSError, codec.ImageError):
    pass
"""


def test_a_damaged_tiff_fills_stderr_when_pillow_reads_it_and_not_when_codec_does(tmp_path: Path) -> None:
    content = bytearray(saved(scene(600, 400).convert("1"), "TIFF", compression="group4"))
    for place in range(100, len(content) - 300, 7):
        content[place] ^= 255
    (tmp_path / "damaged.tif").write_bytes(content)
    lines = {}
    for mode in ("pillow", "codec"):
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "damaged.tif"), mode]
        lines[mode] = subprocess.run(words, capture_output=True, text=True, check=True).stderr.splitlines()
    assert len(lines["pillow"]) > 0
    assert lines["codec"] == []


def fax(packed: bytes, width: int, height: int, compression: int = 3) -> bytes:
    tags: Tags = {256: (LONG, (width,)), 257: (LONG, (height,)), 258: (SHORT, (1,)), 259: (SHORT, (compression,))}
    return written(tags | {262: (SHORT, (0,)), 277: (SHORT, (1,))}, [packed], "<", False)


@pytest.mark.parametrize("compression", [2, 3, 32771])
def test_noise_is_no_fax(compression: int) -> None:
    for seed in range(20):
        noise = random.Random(seed).randbytes(3000)
        with pytest.raises(codec.CorruptImageError):
            codec.decode(fax(noise, 300, 400, compression), 1_000_000)


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_a_fax_that_ends_early_is_damaged(compression: str) -> None:
    """Its strip is as long as it says, and the file is whole."""
    whole = saved(scene(300, 200).convert("1"), "TIFF", compression=compression, tiffinfo={278: 200})
    tags = Directory(whole)
    place, size = tags.number(273, 0), tags.number(279, 0)
    packed, kind = whole[place : place + size], tags.number(259, 0)
    assert np.array_equal(codec.decode(fax(packed, 300, 200, kind), 100_000), 255 - codec.decode(whole, 100_000))
    for part in range(1, 20):
        with pytest.raises(codec.CorruptImageError):
            codec.decode(fax(packed[: size * part // 20], 300, 200, kind), 100_000)


def test_an_error_a_row_does_not_hold_up_the_interpreter() -> None:
    """65 000 calls that wait for a busy thread, 5 ms each, would take minutes."""
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
    busy.start()
    begun = time.monotonic()
    try:
        with pytest.raises(codec.CorruptImageError):
            codec.decode(fax(random.Random(0).randbytes(2000), 30, 65_000), 10_000_000)
    finally:
        stop.set()
        busy.join()
    assert time.monotonic() - begun < 20


def test_errors_are_heard_in_the_thread_that_made_them_alone() -> None:
    damaged = fax(random.Random(0).randbytes(2000), 30, 6000)

    def load() -> None:
        Image.open(io.BytesIO(damaged)).load()

    with pytest.raises(CorruptImageError), libtiff.strict():
        load()
    with libtiff.strict():
        other = threading.Thread(target=load)
        other.start()
        other.join()


def test_fax_is_refused_where_errors_cannot_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libtiff, "_listener", lambda: None)
    with pytest.raises(codec.UnsupportedImageError, match="fax compression"):
        codec.decode(saved(scene().convert("1"), "TIFF", compression="group4"), 1000)

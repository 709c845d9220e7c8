"""libtiff says nothing of a damaged file."""

import contextlib

import pytest

from model.interface import codec
from tests.service.hostile import saved, scene


def test_a_damaged_tiff_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(saved(scene(600, 400).convert("1"), "TIFF", compression="group4"))
    for place in range(100, len(content) - 300, 7):
        content[place] ^= 255
    with contextlib.suppress(codec.ImageError):
        codec.decode(bytes(content), 2_000_000)
    assert capfd.readouterr().err == ""

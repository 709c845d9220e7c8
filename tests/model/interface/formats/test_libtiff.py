"""libtiff says nothing of a damaged file. In processes of their own, because silence lasts."""

import subprocess
import sys
from pathlib import Path

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

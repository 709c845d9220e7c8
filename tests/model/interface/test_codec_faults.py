"""Files that were once treated wrongly, each as its README says; the TIFFs among them have a test of their own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from tests.paths import SHARED

FOLDERS = (SHARED / "faults/images", SHARED / "faults/reports/images")
FILES = [
    path
    for folder in FOLDERS
    if folder.is_dir()
    for path in sorted(folder.iterdir())
    if path.suffix not in (".tif", ".md") and not path.stem.startswith(("truth", "expected"))
]
REFUSED = {
    "E14_sound.wav": "Not an image in an accepted format",
    "wav.wav": "Not an image in an accepted format",
    "E8_jpeg_12bit.jpg": "This kind of JPEG is not supported: 12 bits a sample",
    "jpg_12bit.jpg": "This kind of JPEG is not supported: 12 bits a sample",
}


@pytest.mark.skipif(not FILES, reason="no such files: name their folder in UPSNET_SHARED")
def test_there_are_files_of_both_folders() -> None:
    assert {path.parent for path in FILES} == set(FOLDERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_shown_or_told_by_name(path: Path) -> None:
    if path.name in REFUSED:
        with pytest.raises(codec.UnsupportedImageError, match=REFUSED[path.name]):
            codec.decode(path.read_bytes(), 10**7)
        return
    pixels = codec.decode(path.read_bytes(), 10**7)
    truth = next(path.parent / name for name in ("truth.png", "expected_rgb.png") if (path.parent / name).exists())
    wanted = np.asarray(Image.open(truth).convert("RGB")).astype(int)
    if path.name == "E12_bmp_2bit.bmp":
        grey = np.asarray(Image.open(path.parent / "truth_grey.png").convert("L"))
        wanted = np.repeat((grey >> 6)[..., None] * 85, 3, axis=2)
    error = abs(pixels - wanted)
    assert error.mean() < 2 if path.suffix == ".jpg" else error.max() == 0

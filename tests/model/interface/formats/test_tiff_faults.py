"""TIFF files that were once answered wrongly."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.interface import codec
from tests.paths import SHARED

FAULTS = SHARED / "faults/images"
REPORTS = SHARED / "faults/reports/images"
KINDS = {
    "A6_thumbnail_first_as_camera_raw": "camera raw",
    "tif_dng_like": "camera raw",
    "E1_rgb_float32": "floating-point samples",
    "E5_webp_in_tiff": r"compression 50001 \(WebP\)",
    "tif_rgb32_le": "32 bits a sample",
}
DAMAGED = {"F1_fax_noise"}
RIGHT = {
    "A1_planar_rgb16_uncompressed": FAULTS / "truth.png",
    "A3_miniswhite16": FAULTS / "truth_grey.png",
    "A4_grey12": FAULTS / "truth_grey.png",
    "C1_grey_associated_alpha": FAULTS / "truth_grey.png",
    "E3_grey16_and_alpha": FAULTS / "truth_grey.png",
    "E7_bigtiff_big_endian": FAULTS / "truth.png",
    "E13_planar_rgba_associated": FAULTS / "truth.png",
    "tif_g12_le": REPORTS / "expected_g12.png",
    "tif_g16_white0_le": REPORTS / "expected_white0.png",
    "tif_rgb16_planar_le": REPORTS / "expected_rgb16_planar.png",
}
FILES = sorted([*FAULTS.glob("*.tif"), *REPORTS.glob("*.tif")])


@pytest.mark.skipif(not FILES, reason="reads the shared folder, which is not here")
def test_there_is_an_answer_for_every_file() -> None:
    assert {path.stem for path in FILES} == set(KINDS) | DAMAGED | set(RIGHT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_right_or_refused_as_a_kind(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, name = path.read_bytes(), path.stem
    if name in KINDS:
        with pytest.raises(codec.UnsupportedImageError, match=f"This kind of TIFF is not supported: {KINDS[name]}"):
            codec.decode(content, 10_000_000)
    elif name in DAMAGED:
        with pytest.raises(codec.CorruptImageError):
            codec.decode(content, 10_000_000)
    else:
        right = np.asarray(Image.open(RIGHT[name]).convert("RGB"))
        assert np.array_equal(codec.decode(content, 10_000_000), right)
    assert capfd.readouterr() == ("", "")

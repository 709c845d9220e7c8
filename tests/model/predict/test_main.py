"""`model.predict` as a user types it, on a tiny archive."""

import json
from pathlib import Path

import pytest

from model import archive
from model.interface.codec import encode_png
from tests.model.typed import typed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of one name, and a file that is no photo."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    picture = archive.sample_picture(40, 60).permute(1, 2, 0).numpy()
    for path in (folder / "a.png", folder / "more/a.png"):
        path.write_bytes(encode_png(picture))
    (folder / "b.jpg").write_bytes(b"not a photo")
    return folder


def test_predict_writes_a_panoptic_folder_and_goes_on(
    tiny_archive: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [str(tiny_archive), str(photos), "--out", str(out), "--overlay", "--device", "cpu"]
    assert typed("model.predict", *words) == 1
    content = json.loads((out / "panoptic.json").read_text())
    assert [entry["file_name"] for entry in content["annotations"]] == ["a.png", "a~2.png"]
    assert (out / "panoptic/a~2.png").is_file()
    assert (out / "overlay/a.jpg").is_file()
    assert "b.jpg" in capsys.readouterr().err
    (photos / "b.jpg").unlink()
    assert typed("model.predict", *words) == 0
    assert "2 of 2 photos are done already" in capsys.readouterr().out


def test_batches_and_threads_change_nothing(tiny_archive: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").unlink()
    words = [str(tiny_archive), str(photos), "--device", "cpu", "--out"]
    assert typed("model.predict", *words, str(tmp_path / "alone")) == 0
    assert typed("model.predict", *words, str(tmp_path / "together"), "--batch", "2", "--threads", "1") == 0
    for name in ("panoptic.json", "panoptic/a.png", "panoptic/a~2.png"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        (["--threads", "0"], 2, "--threads: expected a whole number above 0, got '0'"),
        (["--batch", "few"], 2, "--batch: expected a whole number above 0, got 'few'"),
        (["--precision", "int3"], 2, "--precision: invalid choice: 'int3'"),
        (["--precision", "float16", "--device", "cpu"], 1, "error: Precision float16 needs a CUDA device"),
        (["--device", "toaster"], 1, "does not load on toaster"),
        (["missing.jpg"], 1, "error: missing.jpg does not exist. Name photos or folders of photos.\n"),
    ],
)
def test_wrong_words_are_refused_with_a_reason(
    tiny_archive: Path, photos: Path, tmp_path: Path, options: list[str], status: int, part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [str(tiny_archive), str(photos), *options]
    assert typed("model.predict", *words, "--out", str(tmp_path / "out")) == status
    assert part in capsys.readouterr().err


def test_a_missing_archive_and_a_file_in_place_of_the_folder_are_refused(
    tiny_archive: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("model.predict", str(tmp_path / "no.pt"), str(photos), "--out", str(tmp_path / "out")) == 1
    assert f"error: {tmp_path}/no.pt does not exist. Export an archive" in capsys.readouterr().err
    (tmp_path / "out").write_text("")
    assert typed("model.predict", str(tiny_archive), str(photos), "--out", str(tmp_path / "out")) == 1
    assert capsys.readouterr().err.startswith("error: [Errno ")

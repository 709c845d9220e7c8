"""`model.predict` as a user types it, on a tiny archive."""

import json
import os
import sys
from pathlib import Path

import pytest

from model import archive
from model.command import CommandError
from model.interface.codec import encode_png
from model.predict import __main__ as predict
from model.predict.photos import JOURNAL
from tests.model.predict.folder import check
from tests.model.typed import typed
from tests.paths import DEMO, SHARED


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
    assert [entry["file_name"] for entry in content["images"]] == ["a.png", "more/a.png"]
    assert [entry["file_name"] for entry in content["annotations"]] == ["a.png", "a~2.png"]
    assert (out / "panoptic/a~2.png").is_file()
    assert (out / "overlay/a.jpg").is_file()
    assert "b.jpg" in capsys.readouterr().err
    (photos / "b.jpg").unlink()
    assert typed("model.predict", *words) == 0
    assert "2 of 2 photos are done already" in capsys.readouterr().out


def test_batches_and_threads_change_nothing(tiny_archive: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").unlink()
    words = [str(tiny_archive), str(photos), "--device", "cpu", "--precision", "float32", "--out"]
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
        (["--device", "toaster"], 2, "--device: expected auto, cpu, cuda or cuda:N, got 'toaster'"),
        (["missing.jpg"], 1, "error: missing.jpg does not exist. Name photos or folders of photos.\n"),
        ([""], 2, "IMAGE_OR_DIR: expected a path, got ''"),
        (["--out", ""], 2, "--out: expected a path, got ''"),
        (["--threads", "100000000000"], 2, "--threads: expected a whole number from 1 to 1024, got '100000000000'"),
        (["--max-pixels", "inf"], 2, "--max-pixels: expected a whole number above 0, got 'inf'"),
    ],
)
def test_wrong_words_are_refused_with_a_reason(
    tiny_archive: Path, photos: Path, tmp_path: Path, options: list[str], status: int, part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [str(tiny_archive), str(photos), *options]
    assert typed("model.predict", "--out", str(tmp_path / "out"), *words) == status
    assert part in capsys.readouterr().err


def test_a_missing_archive_and_a_file_in_place_of_the_folder_are_refused(
    tiny_archive: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("model.predict", str(tmp_path / "no.pt"), str(photos), "--out", str(tmp_path / "out")) == 1
    assert f"error: {tmp_path}/no.pt does not exist. Export an archive" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for archive_path in (tiny_archive, tmp_path / "no.pt"):  # before anything is read
        assert typed("model.predict", str(archive_path), str(photos), "--out", str(tmp_path / "file")) == 1
        assert capsys.readouterr().err == f"error: {tmp_path}/file is no folder: name one to write to.\n"


@pytest.fixture(params=["here", "shared"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with two photos of one name: ours, or those of the shared folder."""
    faults = SHARED / "faults/reports"
    if request.param == "shared" and not faults.is_dir():
        pytest.skip(f"no {faults}")
    ours = [encode_png(archive.sample_picture(40, 60).permute(1, 2, 0).numpy())] * 2
    theirs = [faults / "http/photo.jpg", faults / "images/expected_rgb.png"]
    contents = ours if request.param == "here" else [path.read_bytes() for path in theirs]
    for name, content in zip(("d1/a.jpg", "d2/a.png"), contents, strict=True):
        (tmp_path / "ph" / name).parent.mkdir(parents=True)
        (tmp_path / "ph" / name).write_bytes(content)
    return tmp_path / "ph"


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_second_run_finds_all_done_from_any_folder_and_draws_what_is_missing(
    tiny_archive: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_path, device = str(tiny_archive.resolve()), ["--device", "cpu"]
    assert typed("model.predict", archive_path, str(two), "--out", str(tmp_path / "o"), *device) == 0
    first = files(tmp_path / "o")
    assert sorted(first) == ["panoptic.json", "panoptic/a.png", "panoptic/a~2.png", "progress.jsonl"]
    (tmp_path / "link").symlink_to("ph")
    monkeypatch.setattr("model.predict.segmenter.Predictor", None)  # nobody needs it
    for folder, photos, out in (
        (tmp_path, "ph", "o"),
        (two, ".", "../o"),
        (two / "d1", "../../link", str(tmp_path / "o")),
        (tmp_path, "./ph/../link/", "link/../o"),
    ):
        monkeypatch.chdir(folder)
        assert typed("model.predict", archive_path, photos, "--out", out, *device) == 0
        assert files(tmp_path / "o") == first
        assert "2 of 2 photos are done already" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert typed("model.predict", archive_path, "ph", "--out", "o", *device, "--overlay") == 0
    assert sorted(files(tmp_path / "o").keys() - first.keys()) == ["overlay/a.jpg", "overlay/a~2.jpg"]
    monkeypatch.undo()
    assert typed("model.predict", archive_path, str(two), "--out", str(tmp_path / "new"), *device, "--overlay") == 0
    assert {**files(tmp_path / "o"), "progress.jsonl": b""} == {**files(tmp_path / "new"), "progress.jsonl": b""}


def test_a_run_never_takes_its_own_pictures(tiny_archive: Path, two: Path, tmp_path: Path) -> None:
    inside = two / "answers"
    for out in (inside, inside, two / "more/answers", tmp_path / "o"):
        words = [str(tiny_archive), str(two), "--out", str(out), "--overlay", "--device", "cpu"]
        assert typed("model.predict", *words) == 0
        content = json.loads((out / "panoptic.json").read_text())
        assert [image["file_name"] for image in content["images"]] == ["d1/a.jpg", "d2/a.png"]
        assert len(list((out / "panoptic").iterdir())) == 2


def test_a_photo_whose_png_was_deleted_is_done_again_and_photos_keep_their_ids(
    tiny_archive: Path, two: Path, tmp_path: Path
) -> None:
    words = [str(tiny_archive), str(two), "--out", str(tmp_path / "o"), "--device", "cpu"]
    assert typed("model.predict", *words) == 0
    before = files(tmp_path / "o")
    (tmp_path / "o/panoptic/a.png").unlink()
    assert typed("model.predict", *words) == 0
    after = files(tmp_path / "o")
    assert after.pop("progress.jsonl").count(b"\n") == 3
    before.pop("progress.jsonl")
    assert after == before
    (two / "d1/0.png").write_bytes((two / "d2/a.png").read_bytes())
    assert typed("model.predict", *words) == 0
    content = json.loads((tmp_path / "o/panoptic.json").read_text())
    assert {image["file_name"]: image["id"] for image in content["images"]} == {
        "d1/0.png": 3,
        "d1/a.jpg": 1,
        "d2/a.png": 2,
    }
    check(tmp_path / "o", two)  # an evaluation finds photos and PNGs


def test_the_journal_of_0_2_0_counts(
    tiny_archive: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tiny_archive.resolve()), "--out", str(tmp_path / "o"), "--device", "cpu"]
    assert typed("model.predict", *words, str(two)) == 0
    entries = [json.loads(line) for line in (tmp_path / "o" / JOURNAL).read_text().splitlines()]
    for entry in entries:
        del entry["id"]
        entry["photo"] = str(Path(entry["photo"]).relative_to(tmp_path))  # as it was typed there
    (tmp_path / "o" / JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    capsys.readouterr()
    monkeypatch.chdir(two)
    assert typed("model.predict", *words, ".") == 0
    assert "2 of 2 photos are done already" in capsys.readouterr().out


def test_what_a_folder_holds_beside_photos_is_told_and_no_end(
    tiny_archive: Path, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (two / "._a.jpg").write_bytes(b"of macOS")
    (two / "lost.jpg").symlink_to("nowhere")
    (two / "loop").symlink_to(".")
    (two / os.fsdecode(b"d1/\xff\n\x1b.png")).write_bytes((two / "d2/a.png").read_bytes())
    (two / "bad\nname.jpg").write_bytes(b"not a photo")
    out = tmp_path / os.fsdecode(b"\xffo")
    assert typed("model.predict", str(tiny_archive), str(two), "--out", str(out), "--device", "cpu") == 1
    said = capsys.readouterr()
    skipped = [line for line in said.err.splitlines() if line.startswith("skipped ")]
    assert [line.removeprefix(f"skipped {two}/")[:15] for line in skipped] == [
        "lost.jpg: a lin",
        "bad name.jpg: N",
    ]
    assert said.out.endswith("o: 3 photos, 2 skipped\n")
    assert len(list((out / "panoptic").iterdir())) == 3


def test_ray_without_its_extra_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "model.predict.on_ray", raising=False)
    with pytest.raises(CommandError, match="uv sync --extra ray"):
        predict.main([str(DEMO), str(photos), "--out", str(tmp_path / "out"), "--ray"])

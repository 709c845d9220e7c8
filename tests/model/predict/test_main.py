"""`model.predict` as a user types it, on a tiny archive; and the demo archive's folder, which the service zips too."""

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model import archive
from model.command import CommandError
from model.datasets.load import load_annotations
from model.datasets.records import read_ids
from model.interface.codec import encode_png
from model.predict import __main__ as predict
from model.predict.photos import JOURNAL
from service.app import create_app
from service.settings import Settings
from tests.model.typed import typed
from tests.paths import DEMO, EXAMPLES, SHARED

PHOTOS = [*sorted(EXAMPLES.glob("*_small.jpg")), *sorted((SHARED / "data/coco_sample/images").glob("*.jpg"))]


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
        (["--device", "toaster"], 2, "--device: expected auto, cpu, cuda or cuda:N, got 'toaster'"),
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
    assert capsys.readouterr().err == f"error: {tmp_path}/out is a file. Name a folder to write with --out.\n"


def test_ray_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "model.predict.on_ray", raising=False)
    with pytest.raises(CommandError, match="uv sync --extra ray"):
        predict.main([str(DEMO), str(PHOTOS[0]), "--out", str(tmp_path), "--ray"])


def check(folder: Path, photos: Path) -> dict[str, list[Any]]:
    """panopticapi's rules, areas and boxes; the segments of each photo."""
    content = json.loads((folder / "panoptic.json").read_text())
    records = load_annotations(folder / "panoptic.json", photos, folder / "panoptic").images
    assert [image["file_name"] for image in content["images"]] == [record.photo.name for record in records]
    for record, image, annotation in zip(records, content["images"], content["annotations"], strict=True):
        ids = read_ids(record)
        assert ids.shape == (image["height"], image["width"])
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(rows)
            x, y = int(columns.min()), int(rows.min())
            assert segment["bbox"] == [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
    return {
        image["file_name"]: annotation["segments_info"]
        for image, annotation in zip(content["images"], content["annotations"], strict=True)
    }


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled photos, COCO's two where they are, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in PHOTOS:
        (folder / photo.name).write_bytes(photo.read_bytes())
    (folder / "broken.jpg").write_bytes(PHOTOS[0].read_bytes()[:2000])
    return folder


@pytest.fixture(scope="module")
def answers(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("answers")
    assert predict.main([str(DEMO), str(examples), "--out", str(out), "--device", "cpu"]) == 1
    return out


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(model=DEMO, device="cpu", warmup_sizes=()))) as client:
        while client.get("/health/ready").status_code != 200:
            pass
        yield client


def test_predict_writes_a_folder_without_a_fault(answers: Path, examples: Path) -> None:
    assert sorted(check(answers, examples)) == sorted(photo.name for photo in PHOTOS)


@pytest.mark.parametrize("photo", PHOTOS, ids=[photo.stem for photo in PHOTOS])
def test_the_service_zips_the_same_folder(
    answers: Path, examples: Path, client: TestClient, tmp_path: Path, photo: Path
) -> None:
    answer = client.post("/panoptic", content=photo.read_bytes(), headers={"Accept": "application/zip"})
    assert answer.status_code == 200
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    (tmp_path / content["images"][0]["file_name"]).write_bytes(photo.read_bytes())
    assert list(check(tmp_path, tmp_path).values()) == [check(answers, examples)[photo.name]]
    name = content["annotations"][0]["file_name"]
    assert (tmp_path / "panoptic" / name).read_bytes() == (answers / "panoptic" / f"{photo.stem}.png").read_bytes()


def test_a_stopped_run_goes_on_and_a_bad_photo_is_named(
    answers: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "panoptic").mkdir()
    first, second = (answers / JOURNAL).read_text().splitlines()[:2]
    (tmp_path / JOURNAL).write_text(f"{first}\n{second[:50]}")  # stopped while it wrote the second line
    name = json.loads(first)["name"]
    (tmp_path / "panoptic" / f"{name}.png").write_bytes((answers / "panoptic" / f"{name}.png").read_bytes())
    written = (tmp_path / "panoptic" / f"{name}.png").stat().st_mtime_ns
    command = [str(DEMO), str(examples), "--out", str(tmp_path), "--device", "cpu"]
    assert predict.main(command) == 1
    said = capsys.readouterr()
    assert f"1 of {len(PHOTOS) + 1} photos are done already" in said.out
    assert "broken.jpg: The image cannot be decoded" in said.err
    assert (tmp_path / "panoptic" / f"{name}.png").stat().st_mtime_ns == written
    assert check(tmp_path, examples) == check(answers, examples)

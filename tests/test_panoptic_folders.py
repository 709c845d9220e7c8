"""What `model.predict` writes and what the service zips are COCO-panoptic folders without a fault, and the same."""

import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model.command import CommandError
from model.datasets.panoptic_folder import load_annotations
from model.datasets.records import read_ids
from model.predict import __main__ as predict
from model.predict.photos import JOURNAL, find_jobs
from service.app import create_app
from service.settings import Settings
from tests.paths import DEMO, EXAMPLES, ROOT

COCO = Path(os.environ.get("UPSNET_SHARED", ROOT.parent / "shared")) / "data/coco_sample/images"
PHOTOS = [*sorted(EXAMPLES.glob("*_small.jpg")), *sorted(COCO.glob("*.jpg"))]


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
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled photos, COCO's two where they are, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in PHOTOS:
        (folder / photo.name).write_bytes(photo.read_bytes())
    (folder / "broken.jpg").write_bytes(PHOTOS[0].read_bytes()[:2000])
    return folder


@pytest.fixture(scope="module")
def answers(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("answers")
    assert predict.main([str(DEMO), str(photos), "--out", str(out), "--device", "cpu"]) == 1
    return out


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(model=DEMO, device="cpu", warmup_sizes=()))) as client:
        while client.get("/health/ready").status_code != 200:
            pass
        yield client


def test_predict_writes_a_folder_without_a_fault(answers: Path, photos: Path) -> None:
    assert sorted(check(answers, photos)) == sorted(photo.name for photo in PHOTOS)


@pytest.mark.parametrize("photo", PHOTOS, ids=[photo.stem for photo in PHOTOS])
def test_the_service_zips_the_same_folder(
    answers: Path, photos: Path, client: TestClient, tmp_path: Path, photo: Path
) -> None:
    answer = client.post("/panoptic", content=photo.read_bytes(), headers={"Accept": "application/zip"})
    assert answer.status_code == 200
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    (tmp_path / content["images"][0]["file_name"]).write_bytes(photo.read_bytes())
    assert list(check(tmp_path, tmp_path).values()) == [check(answers, photos)[photo.name]]
    name = content["annotations"][0]["file_name"]
    assert (tmp_path / "panoptic" / name).read_bytes() == (answers / "panoptic" / f"{photo.stem}.png").read_bytes()


def test_a_stopped_run_goes_on_and_a_bad_photo_is_named(
    answers: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "panoptic").mkdir()
    first, second = (answers / JOURNAL).read_text().splitlines()[:2]
    (tmp_path / JOURNAL).write_text(f"{first}\n{second[:50]}")  # stopped while it wrote the second line
    name = json.loads(first)["name"]
    (tmp_path / "panoptic" / f"{name}.png").write_bytes((answers / "panoptic" / f"{name}.png").read_bytes())
    written = (tmp_path / "panoptic" / f"{name}.png").stat().st_mtime_ns
    command = [str(DEMO), str(photos), "--out", str(tmp_path), "--device", "cpu"]
    assert predict.main(command) == 1
    said = capsys.readouterr()
    assert f"1 of {len(PHOTOS) + 1} photos are done already" in said.out
    assert "broken.jpg: The image cannot be decoded" in said.err
    assert (tmp_path / "panoptic" / f"{name}.png").stat().st_mtime_ns == written
    assert check(tmp_path, photos) == check(answers, photos)


def test_ray_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "model.predict.on_ray", raising=False)
    with pytest.raises(CommandError, match="uv sync --extra ray"):
        predict.main([str(DEMO), str(PHOTOS[0]), "--out", str(tmp_path), "--ray"])


def test_photos_of_one_name_are_kept_apart_in_a_resumed_run_too(tmp_path: Path) -> None:
    for name in ("a/same.jpg", "b/same.jpg", "b/same~2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inputs = [tmp_path, tmp_path / "a/same.jpg"]
    assert [job.name for job in find_jobs(inputs, {})] == ["same", "same~2", "same~2~2"]
    done = {str(tmp_path / "b/same.jpg"): "same"}  # before the photo in `a` came
    assert [job.name for job in find_jobs(inputs, done)] == ["same~2", "same", "same~2~2"]

"""The folder that `model.predict` writes with the demo archive, which the service zips too."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from model.predict import __main__ as predict
from model.predict.photos import JOURNAL
from service.app import create_app
from service.settings import Settings
from tests.model.predict.folder import check
from tests.paths import DEMO, EXAMPLES, SHARED

PHOTOS = [*sorted(EXAMPLES.glob("*_small.jpg")), *sorted((SHARED / "data/coco_sample/images").glob("*.jpg"))]


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

"""What is written for a photo, with the network and without it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.interface.categories import Category, Labels
from model.interface.codec import encode_png
from model.interface.panoptic import Panoptic, Pixels, Segment
from model.predict import segmenter as module
from model.predict.photos import Photo
from model.predict.segmenter import Options, PhotoSegmenter, draw

LABELS = Labels((Category(7, "road", False, (128, 64, 128)),))


class Road:
    """A predictor that finds nothing but road, and notes how many images come at a time."""

    categories = LABELS

    def __init__(self) -> None:
        self.served = type("Served", (), {"name": "road@1"})
        self.batches: list[int] = []

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def predict(self, images: Sequence[Pixels]) -> list[Panoptic]:
        self.batches.append(len(images))
        return [self.answer(*image.shape[:2]) for image in images]

    def answer(self, height: int, width: int) -> Panoptic:
        segment = Segment(1, 7, "road", False, 1.0, height * width, (0, 0, width, height))
        return Panoptic(np.ones((height, width), np.uint8), (segment,))


def segmenter(road: Road, out: Path, monkeypatch: pytest.MonkeyPatch, batch: int, overlay: bool) -> PhotoSegmenter:
    monkeypatch.setattr(module, "Predictor", lambda *_: road)
    return PhotoSegmenter(options(out, batch, overlay))


def options(out: Path, batch: int = 1, overlay: bool = True) -> Options:
    for name in ["panoptic"] + ["overlay"] * overlay:
        (out / name).mkdir(exist_ok=True)
    return Options(Path("a.pt"), out, overlay, batch, 2, 1000, "cpu", "auto")


def write_photos(folder: Path, *sizes: tuple[int, int]) -> list[Photo]:
    for number, size in enumerate(sizes):
        (folder / f"{number}.png").write_bytes(encode_png(np.full((*size, 3), 90, np.uint8)))
    return [Photo(n + 1, folder / f"{n}.png", str(n), f"in/{n}.png") for n in range(len(sizes))]


def test_photos_of_one_size_are_segmented_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    road = Road()
    photos = write_photos(tmp_path, (4, 6), (4, 6), (5, 5), (4, 6))
    entries = list(segmenter(road, tmp_path, monkeypatch, batch=2, overlay=False).segment(photos))
    assert road.batches == [2, 1, 1]
    assert [entry["name"] for entry in entries] == ["0", "1", "2", "3"]
    assert entries[2] == {
        "photo": str(tmp_path / "2.png"),
        "model": "road@1",
        "id": 3,
        "name": "2",
        "height": 5,
        "width": 5,
        "segments_info": [
            {
                "id": 1,
                "category_id": 7,
                "category": "road",
                "isthing": False,
                "score": 1.0,
                "area": 25,
                "bbox": (0, 0, 5, 5),
                "iscrowd": 0,
            }
        ],
    }
    assert not (tmp_path / "overlay").exists()


def test_photos_that_wait_for_others_of_their_size_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    road = Road()
    photos = write_photos(tmp_path, *((4, 4 + number // 2) for number in range(2 * module.AHEAD)))
    assert len(list(segmenter(road, tmp_path, monkeypatch, batch=3, overlay=False).segment(photos))) == len(photos)
    assert road.batches == [2] * module.AHEAD  # of each size, the first when as many photos wait as may


def test_a_photo_that_cannot_be_decoded_is_an_error_and_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path, (4, 6), (50, 60))
    broken = [Photo(3, tmp_path / "no.png", "no", "no.png"), Photo(4, Path(__file__), "text", "text.py")]
    entries = list(segmenter(Road(), tmp_path, monkeypatch, batch=1, overlay=True).segment([*photos, *broken]))
    assert entries[0]["name"] == "0"
    assert "Mpx" in entries[1]["error"]  # 3000 pixels, and 1000 are decoded
    assert "No such file" in entries[2]["error"]
    assert entries[3]["photo"] == __file__
    assert (tmp_path / "overlay/0.jpg").is_file()


def test_an_overlay_is_drawn_later_as_it_would_have_been_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path, (40, 60), (50, 5))
    entries = list(segmenter(Road(), tmp_path, monkeypatch, batch=1, overlay=True).segment(photos))
    entries = [json.loads(json.dumps(entry)) for entry in entries]  # as the journal has them
    wanted = {path: path.read_bytes() for path in (tmp_path / "overlay").iterdir()}
    for path in wanted:
        path.unlink()
    monkeypatch.setattr(module, "Predictor", None)
    assert list(draw(zip(photos, entries, strict=True), options(tmp_path), LABELS.colors)) == entries
    assert {path: path.read_bytes() for path in (tmp_path / "overlay").iterdir()} == wanted


def test_an_overlay_that_cannot_be_drawn_is_an_error_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path, (4, 6), (5, 6), (6, 6), (7, 6))
    entries = list(segmenter(Road(), tmp_path, monkeypatch, batch=1, overlay=False).segment(photos))
    photos[0].path.unlink()
    (tmp_path / "panoptic/1.png").write_bytes(b"not a picture")
    photos[2].path.write_bytes(photos[3].path.read_bytes())
    first, second, third, fourth = draw(zip(photos, entries, strict=True), options(tmp_path), LABELS.colors)
    assert "No such file" in first["error"]
    assert "error" in second
    assert third["error"].startswith("it has another size than its answer. To have that made again, delete ")
    assert fourth == entries[3]
    assert [path.name for path in (tmp_path / "overlay").iterdir()] == ["3.jpg"]

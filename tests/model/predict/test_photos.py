"""Photos, the journal of those that are done, and what is written for one."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.command import CommandError
from model.interface.categories import Category, Labels
from model.interface.codec import encode_png
from model.interface.panoptic import Panoptic, Pixels, Segment
from model.predict import photos as module
from model.predict.photos import JOURNAL, Journal, Options, Photo, PhotoSegmenter, find_photos

LABELS = Labels((Category(7, "road", False, (128, 64, 128)),))
ENTRY = {"photo": "in/a.png", "model": "tiny@1", "name": "a", "height": 2, "width": 3, "segments_info": []}


def test_folders_are_searched_and_files_are_taken_whatever_their_ending(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/c.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [photo.path.name for photo in find_photos([tmp_path], {})] == ["a.png", "b.JPG", "c.webp"]
    found = find_photos([tmp_path / "notes.txt", tmp_path / "a.png"], {})
    assert found == [Photo(1, tmp_path / "notes.txt", "notes"), Photo(2, tmp_path / "a.png", "a")]


def test_a_missing_input_and_a_folder_without_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no\.jpg does not exist\. Name photos or folders of photos"):
        find_photos([tmp_path / "no.jpg"], {})
    with pytest.raises(CommandError, match=r"No photos in .*\. Known endings: \.bmp, "):
        find_photos([tmp_path], {})


def test_the_next_run_reads_what_was_done_but_a_line_cut_short(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out", "tiny@1")
    assert journal.done == {}
    journal.add(ENTRY)
    with (tmp_path / "out" / JOURNAL).open("a") as file:
        file.write('{"photo": "in/b.p')
    assert Journal(tmp_path / "out", "tiny@1").done == {"in/a.png": ENTRY}


def test_a_folder_with_another_models_answers_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, "tiny@1").add(ENTRY)
    with pytest.raises(CommandError, match=r"holds answers of tiny@1, this archive is large@2\. Name another folder"):
        Journal(tmp_path, "large@2")


def test_the_end_lists_the_photos_that_are_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "tiny@1")
    journal.add(ENTRY)
    journal.finish([Photo(1, Path("in/b.png"), "b"), Photo(2, Path("in/a.png"), "a")], LABELS)
    assert json.loads((tmp_path / "panoptic.json").read_text()) == {
        "images": [{"id": 2, "file_name": "a.png", "height": 2, "width": 3}],
        "annotations": [{"image_id": 2, "file_name": "a.png", "segments_info": []}],
        "categories": [{"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}],
    }


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
    return PhotoSegmenter(Options(Path("a.pt"), out, overlay, batch, 2, 1000, "cpu", "auto"))


def write_photos(folder: Path, *sizes: tuple[int, int]) -> list[Photo]:
    for number, size in enumerate(sizes):
        (folder / f"{number}.png").write_bytes(encode_png(np.full((*size, 3), 90, np.uint8)))
    return [Photo(number + 1, folder / f"{number}.png", str(number)) for number in range(len(sizes))]


def test_photos_of_one_size_are_segmented_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    road = Road()
    photos = write_photos(tmp_path, (4, 6), (4, 6), (5, 5), (4, 6))
    entries = list(segmenter(road, tmp_path, monkeypatch, batch=2, overlay=False).segment(photos))
    assert road.batches == [2, 1, 1]
    assert [entry["name"] for entry in entries] == ["0", "1", "2", "3"]
    assert entries[2] == {
        "photo": str(tmp_path / "2.png"),
        "model": "road@1",
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
    broken = [Photo(3, tmp_path / "no.png", "no"), Photo(4, Path(__file__), "text")]
    entries = list(segmenter(Road(), tmp_path, monkeypatch, batch=1, overlay=True).segment([*photos, *broken]))
    assert entries[0]["name"] == "0"
    assert "Mpx" in entries[1]["error"]  # 3000 pixels, and 1000 are decoded
    assert "No such file" in entries[2]["error"]
    assert entries[3]["photo"] == __file__
    assert (tmp_path / "overlay/0.jpg").is_file()


def test_photos_of_one_name_are_kept_apart_in_a_resumed_run_too(tmp_path: Path) -> None:
    for name in ("a/same.jpg", "b/same.jpg", "b/same~2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inputs = [tmp_path, tmp_path / "a/same.jpg"]
    assert [photo.name for photo in find_photos(inputs, {})] == ["same", "same~2", "same~2~2"]
    done = {str(tmp_path / "b/same.jpg"): "same"}  # before the photo in `a` came
    assert [photo.name for photo in find_photos(inputs, done)] == ["same~2", "same", "same~2~2"]

"""COCO-panoptic folders: what is read of them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from model.datasets.panoptic_folder import load_panoptic_folder
from model.datasets.records import AnnotationError, SegmentRecord
from tests.model.datasets.folder import CAR, LABELS, ROAD, write_folder


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    annotations = load_panoptic_folder(*write_folder(tmp_path, [{**CAR, "iscrowd": 1}, ROAD]))
    assert annotations.categories == LABELS
    (record,) = annotations.images
    assert (record.id, record.photo, record.mask) == (3, tmp_path / "photos/a.png", tmp_path / "masks/a.png")
    assert record.segments == (SegmentRecord(300, 26, True), SegmentRecord(70_000, 7, False))


@pytest.mark.parametrize(
    ("segments", "part"),
    [
        ([CAR, {"id": 70_000, "category_id": 1}], "image 3: segment 70000 has unknown category 1"),
        ([CAR, ROAD, CAR], "image 3: segment 300 appears twice"),
        ([{"id": 300}], "is not a COCO-panoptic file: no 'category_id'"),
    ],
)
def test_wrong_segments_are_refused_with_file_and_id(tmp_path: Path, segments: list[Any], part: str) -> None:
    with pytest.raises(AnnotationError, match=rf"a\.json.*{part}"):
        load_panoptic_folder(*write_folder(tmp_path, segments))


def test_segments_of_an_unknown_image_are_refused(tmp_path: Path) -> None:
    path, *folders = write_folder(tmp_path, [CAR])
    path.write_text(path.read_text().replace('"image_id": 3', '"image_id": 5'))
    with pytest.raises(AnnotationError, match=r"a\.json is not .*: image 5 has segments and is not listed"):
        load_panoptic_folder(path, *folders)


@pytest.mark.parametrize("name", ["photos", "masks"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    paths = write_folder(tmp_path, [CAR])
    (tmp_path / name / "a.png").unlink()
    with pytest.raises(AnnotationError, match=rf"image 3: .*{name}/a\.png does not exist"):
        load_panoptic_folder(*paths)


@pytest.mark.parametrize("content", ["", "[]", '{"images": []}'])
def test_another_json_is_refused(tmp_path: Path, content: str) -> None:
    path, *folders = write_folder(tmp_path, [CAR])
    path.write_text(content)
    with pytest.raises(AnnotationError, match=r"a\.json is not a COCO-panoptic file"):
        load_panoptic_folder(path, *folders)

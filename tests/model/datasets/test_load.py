"""Each form of annotations goes to its reader, and only the images that were asked for are kept."""

import argparse
import json
from pathlib import Path

import pytest

from model.datasets.load import add_annotations, load_annotations
from model.datasets.records import AnnotationError
from tests.model.datasets.folder import CAR, ROAD, write_folder
from tests.model.datasets.test_cityscapes import write_city


def test_a_json_is_a_panoptic_folder_and_a_folder_is_cityscapes(tmp_path: Path) -> None:
    assert load_annotations(*write_folder(tmp_path, [CAR, ROAD])).categories.names == ("road", "car")
    assert len(load_annotations(*write_city(tmp_path)).categories) == 19


def test_a_panoptic_folder_needs_its_pngs(tmp_path: Path) -> None:
    path, photos, _ = write_folder(tmp_path, [CAR, ROAD])
    with pytest.raises(AnnotationError, match=r"a\.json is a COCO-panoptic file: name the folder of its PNGs"):
        load_annotations(path, photos)


def test_listed_images_are_kept(tmp_path: Path) -> None:
    paths, lists = write_folder(tmp_path, [CAR, ROAD]), tmp_path / "splits.json"
    lists.write_text(json.dumps({"train": [3, 4], "val": [5], "names": ["a"], "count": 2}))
    assert [image.id for image in load_annotations(*paths, f"{lists}:train").images] == [3]
    assert load_annotations(*paths, f"{lists}:val").images == ()
    for key in ("names", "count", "test"):
        with pytest.raises(AnnotationError, match=f"{key}: expected FILE:KEY with a list of image ids"):
            load_annotations(*paths, f"{lists}:{key}")
    with pytest.raises(
        AnnotationError, match=r"^--ids nope:k: nope cannot be read: No such file or directory\. Expected"
    ):
        load_annotations(*paths, "nope:k")


def test_annotations_need_photos_and_not_always_masks() -> None:
    parser = argparse.ArgumentParser()
    add_annotations(parser)
    args = parser.parse_args(["--annotations", "a.json", "--images", "b"])
    assert (str(args.annotations), str(args.images), args.masks, args.ids) == ("a.json", "b", None, None)
    with pytest.raises(SystemExit):
        parser.parse_args(["--annotations", "a.json"])

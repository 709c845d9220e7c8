"""Each form of annotations goes to its reader, and only the images that were asked for are kept."""

import argparse
import json
from pathlib import Path

import pytest

from model.datasets.load import add_annotations, load_annotations, read_id_list
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
    lists.write_bytes(b"\xef\xbb\xbf" + json.dumps({"train": [3, 4], "float": [3.0]}).encode())
    assert [image.id for image in load_annotations(*paths, f"{lists}:train").images] == [3]
    assert [image.id for image in load_annotations(*paths, f"{lists}:float").images] == [3]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"val": [5, 6]}', r"none of its 2 ids is that of an image in /\S+/a\.json\."),
        ('{"val": []}', "none of its 0 ids is that of an image"),
        ('{"val": ["3"]}', 'an id is "3" where others are 3; ids of images are all numbers, or all text'),
        ('{"val": [3, "b"]}', 'an id is "b" where others are 3'),
        ('{"train": [3]}', r"/\S+/ids\.json has no val; expected FILE:KEY with a list of image ids under KEY\."),
        ('{"val": 3}', "val is 3; expected a list; expected FILE:KEY"),
        ('{"val": "3"}', 'val is "3"; expected a list; expected FILE:KEY'),
        ('{"val": [3, null]}', r"val\[1\] is null; expected a whole number or text; expected FILE:KEY"),
        ('{"val": [3.5]}', r"val\[0\] is 3.5; expected a whole number; expected FILE:KEY"),
        ("[3]", r"/\S+/ids\.json is not such a file: it is a list, not an object\. Expected FILE:KEY"),
        ("", r"/\S+/ids\.json is not such a file: it is empty\. Expected FILE:KEY with a list of image ids"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(tmp_path: Path, content: str, reason: str) -> None:
    paths, lists = write_folder(tmp_path, [CAR, ROAD]), tmp_path / "ids.json"
    lists.write_text(content)
    with pytest.raises(AnnotationError, match=rf"^--ids /\S+/ids\.json:val: {reason}"):
        load_annotations(*paths, f"{lists}:val")


@pytest.mark.parametrize("text", ["nope", ":k", "", "nope:"])
def test_a_list_is_a_file_and_a_key(text: str) -> None:
    with pytest.raises(AnnotationError, match=rf"^--ids {text}: expected FILE:KEY with a list of image ids under KEY"):
        read_id_list(text)


def test_a_list_that_cannot_be_read_is_named() -> None:
    with pytest.raises(
        AnnotationError, match=r"^--ids nope:k: nope cannot be read: No such file or directory\. Expected"
    ):
        read_id_list("nope:k")


def test_text_is_an_id_too(tmp_path: Path) -> None:
    path, photos, masks = write_folder(tmp_path, [CAR, ROAD])
    path.write_text(path.read_text().replace('"image_id": 3', '"image_id": "b/1"').replace('"id": 3,', '"id": "b/1",'))
    (tmp_path / "ids.json").write_text('{"val": ["b/1", "c"], "1": [1]}')
    assert [image.id for image in load_annotations(path, photos, masks, f"{tmp_path}/ids.json:val").images] == ["b/1"]
    with pytest.raises(AnnotationError, match='an id is 1 where others are "b/1"'):
        load_annotations(path, photos, masks, f"{tmp_path}/ids.json:1")


def test_images_of_cityscapes_are_listed_by_name(tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text('{"val": ["aachen_000000_000019"]}')
    annotations = load_annotations(*write_city(tmp_path), None, f"{tmp_path}/ids.json:val")
    assert [image.id for image in annotations.images] == ["aachen_000000_000019"]


def test_a_file_without_annotations_is_refused(tmp_path: Path) -> None:
    path, photos, masks = write_folder(tmp_path, [CAR, ROAD])
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    with pytest.raises(AnnotationError, match=r"a\.json has no images with annotations\."):
        load_annotations(path, photos, masks)


def test_annotations_need_photos_and_not_always_masks() -> None:
    parser = argparse.ArgumentParser()
    add_annotations(parser)
    args = parser.parse_args(["--annotations", "a.json", "--images", "b"])
    assert (str(args.annotations), str(args.images), args.masks, args.ids) == ("a.json", "b", None, None)
    with pytest.raises(SystemExit):
        parser.parse_args(["--annotations", "a.json"])


@pytest.mark.parametrize("option", ["--annotations", "--images", "--masks"])
def test_an_empty_path_is_a_mistake_and_not_the_working_folder(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_annotations(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--annotations", "a.json", "--images", "b", option, ""])
    assert f"argument {option}: expected a path, got ''" in capsys.readouterr().err

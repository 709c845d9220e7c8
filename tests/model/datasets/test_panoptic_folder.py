"""COCO-panoptic folders: what is read of them, and what is refused, with file and id in one line."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.datasets.panoptic_folder import load_panoptic_folder
from model.datasets.records import AnnotationError, SegmentRecord
from model.training.outlines import load_outlines
from tests.model.datasets.folder import CAR, LABELS, ROAD, write_cities, write_folder
from tests.paths import SHARED

REPORTS = SHARED / "faults/reports/folders"
Change = Callable[[dict[str, Any]], object]


def changed(folder: Path, change: Change) -> tuple[Path, Path, Path]:
    """A folder of two photos, in folders of cities, whose JSON is not as it was written."""
    path, *folders = write_cities(folder, "aachen", "bonn")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path, *folders


def image(**fields: Any) -> Change:
    return lambda content: content["images"][1].update(fields)


def annotation(**fields: Any) -> Change:
    return lambda content: content["annotations"][1].update(fields)


def segment(**fields: Any) -> Change:
    return lambda content: content["annotations"][1]["segments_info"][0].update(fields)


def category(**fields: Any) -> Change:
    return lambda content: content["categories"][1].update(fields)


def ids(*numbers: Any) -> Change:
    """Ids of the two images, in `images` and in `annotations`."""

    def change(content: dict[str, Any]) -> None:
        for number, entry, notes in zip(numbers, content["images"], content["annotations"], strict=True):
            entry["id"] = notes["image_id"] = number

    return change


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    annotations = load_panoptic_folder(*write_folder(tmp_path, [{**CAR, "iscrowd": 1}, ROAD]))
    assert annotations.categories == LABELS
    (record,) = annotations.images
    assert (record.id, record.photo, record.mask) == (3, tmp_path / "photos/a.png", tmp_path / "masks/a.png")
    assert record.segments == (SegmentRecord(300, 26, True), SegmentRecord(70_000, 7, False))


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        (ids("b", "a"), ("b", "a")),
        (ids("1", "2"), ("1", "2")),
        (ids(0, -5), (0, -5)),
        (ids(2.0, 1.0), (2, 1)),
        (lambda content: content["annotations"].reverse(), (2, 1)),
        (lambda content: content["annotations"].pop(), (1,)),
        (lambda content: content["images"].append({"id": 3}), (1, 2)),
        (segment(id="300", category_id="26"), (1, 2)),
        (segment(id=300.0, category_id=26.0, iscrowd=False), (1, 2)),
        (annotation(segments_info=[]), (1, 2)),
        (category(isthing=True, color=None), (1, 2)),
        (image(file_name="bonn\\1.png"), (1, 2)),
        (image(file_name="./bonn/../bonn//1.png"), (1, 2)),
        (annotation(file_name="bonn\\1.png"), (1, 2)),
        (annotation(file_name="bonn/1.jpg"), (1, 2)),
        (annotation(file_name="bonn/1.JPEG"), (1, 2)),
    ],
)
def test_what_tools_write_is_read(tmp_path: Path, change: Change, numbers: tuple[int | str, ...]) -> None:
    records = load_panoptic_folder(*changed(tmp_path, change)).images
    assert tuple(record.id for record in records) == numbers
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    assert {record.photo for record in records} <= {photos / "aachen/1.png", photos / "bonn/1.png"}
    assert [record.mask.relative_to(masks) for record in records] == [
        record.photo.relative_to(photos) for record in records
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (ids(1, 1), "image 1 is listed twice in images"),
        (ids("x", "x"), 'image "x" is listed twice in images'),
        (ids(1, "b2"), r'images\[1\]: id is "b2" where others are 1; ids of images are all numbers, or all text'),
        (ids("b2", 1), r'images\[1\]: id is 1 where others are "b2"'),
        (ids("1", 2), r'images\[1\]: id is 2 where others are "1"'),
        (ids(1, None), r"images\[1\]: id is null; expected a whole number or text"),
        (ids(1, True), r"images\[1\]: id is true; expected a whole number or text"),
        (ids(1, 2.5), r"images\[1\]: id is 2.5; expected a whole number"),
        (ids(1, ""), r'images\[1\]: id is ""; expected text'),
        (annotation(image_id=1), "image 1 has two annotations"),
        (annotation(image_id="2"), r'annotations\[1\]: image_id is "2" where others are 1'),
        (annotation(image_id=7), "image 7 has segments and is not listed in images"),
        (annotation(image_id=None), r"annotations\[1\]: image_id is null; expected a whole number or text"),
        (image(file_name="aachen/1.png"), r"images 1 and 2 have one photo, /\S+/photos/aachen/1\.png"),
        (image(file_name="./aachen/1.png"), r"images 1 and 2 have one photo, /\S+/photos/aachen/1\.png"),
        (annotation(file_name="aachen/1.png"), r"images 1 and 2 have one PNG, /\S+/masks/aachen/1\.png"),
        (
            image(file_name="../photos/bonn/1.png"),
            r'image 2: file_name "../photos/bonn/1.png" leads out of /\S+/photos',
        ),
        (image(file_name="/bonn/1.png"), 'image 2: file_name "/bonn/1.png" leads out of'),
        (image(file_name="bonn\\..\\..\\1.png"), "image 2: file_name .* leads out of"),
        (image(file_name="C:\\bonn\\1.png"), r"image 2: .*1\.png does not exist"),
        (image(file_name="bonn"), r"image 2: /\S+/photos/bonn does not exist"),
        (image(file_name="x" * 5000), r"image 2: /\S+ does not exist"),
        (image(file_name="a\0b"), "image 2: .* does not exist"),
        (image(file_name=None), "image 2: file_name is null; expected text"),
        (image(file_name=["bonn/1.png"]), "image 2: file_name is a list; expected text"),
        (lambda content: content["images"][1].pop("file_name"), "image 2 has no file_name"),
        (annotation(file_name="bonn/2.jpg"), r"image 2: /\S+/masks/bonn/2\.jpg does not exist"),
        (annotation(file_name=5), "image 2: file_name of its PNG is 5; expected text"),
        (lambda content: content["annotations"][1].pop("file_name"), "image 2: its annotation has no file_name"),
        (lambda content: content["annotations"][1].pop("segments_info"), "image 2 has no segments_info"),
        (annotation(segments_info=None), "image 2: segments_info is null; expected a list"),
        (annotation(segments_info={"300": 26}), "image 2: segments_info is an object; expected a list"),
        (annotation(segments_info=[CAR, None]), r"image 2: segments_info\[1\] is null; expected an object"),
        (annotation(segments_info=[{"category_id": 7}]), r"image 2: segments_info\[0\] has no id"),
        (annotation(segments_info=[{"id": 300}]), "image 2: segment 300 has no category_id"),
        (annotation(segments_info=[CAR, ROAD, CAR]), "image 2: segment 300 appears twice"),
        (segment(id=0), r"image 2: segments_info\[0\]: id is 0; expected a whole number from 1 to 16777215"),
        (segment(id=-300), r"image 2: segments_info\[0\]: id is -300; expected a whole number from 1 to 16777215"),
        (segment(id=2**24), r"image 2: segments_info\[0\]: id is 16777216; expected a whole number from 1 to"),
        (segment(id=300.5), r"image 2: segments_info\[0\]: id is 300.5; expected a whole number from 1 to"),
        (segment(id="300.0"), r'image 2: segments_info\[0\]: id is "300.0"; expected a whole number from 1 to'),
        (segment(id=True), r"image 2: segments_info\[0\]: id is true; expected a whole number from 1 to"),
        (segment(id=[300]), r"image 2: segments_info\[0\]: id is a list; expected a whole number from 1 to"),
        (segment(category_id=1), "image 2: segment 300 has unknown category 1"),
        (segment(category_id=26.5), "image 2: segment 300: category_id is 26.5; expected a whole number"),
        (segment(category_id="car"), 'image 2: segment 300: category_id is "car"; expected a whole number'),
        (segment(category_id=None), "image 2: segment 300: category_id is null; expected a whole number"),
        (segment(iscrowd="0"), 'image 2: segment 300: iscrowd is "0"; expected 0, 1, true or false'),
        (segment(iscrowd=2), "image 2: segment 300: iscrowd is 2; expected 0, 1, true or false"),
        (segment(iscrowd=None), "image 2: segment 300: iscrowd is null; expected 0, 1, true or false"),
        (segment(iscrowd=0.0), "image 2: segment 300: iscrowd is 0.0; expected 0, 1, true or false"),
        (category(isthing="0"), 'category 26: isthing is "0"; expected 0, 1, true or false'),
        (category(id=7), r"category ids \[7\] appear twice"),
        (category(name="road"), 'categories 7, 26 have one name, "road"'),
        (category(color="#00008e"), 'category 26: color is "#00008e"; expected three numbers from 0 to 255'),
        (lambda content: content.update(categories=[]), "categories is empty"),
        (lambda content: content.update(categories=None), "categories is null; expected a list"),
        (lambda content: content.update(categories={"7": "road"}), "categories is an object; expected a list"),
        (lambda content: content.update(categories=["road"]), r'categories\[0\] is "road"; expected an object'),
        (lambda content: content.update(images={}), "images is an object; expected a list"),
        (lambda content: content.update(images=[3]), r"images\[0\] is 3; expected an object"),
        (lambda content: content.update(annotations=None), "annotations is null; expected a list"),
        (lambda content: content.update(annotations="none"), 'annotations is "none"; expected a list'),
        (lambda content: content.update(annotations=[[]]), r"annotations\[0\] is a list; expected an object"),
        (
            lambda content: content.update(annotations=[{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}]),
            "its annotations are boxes or outlines of instances; expected a COCO-panoptic file, with segments_info",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_file_and_id(tmp_path: Path, change: Change, reason: str) -> None:
    with pytest.raises(AnnotationError, match=rf"^/\S+/a\.json: {reason}") as error:
        load_panoptic_folder(*changed(tmp_path, change))
    assert "\n" not in str(error.value)


def test_no_structure_ends_in_a_trace(tmp_path: Path) -> None:
    """Values anywhere in the JSON are exchanged or dropped, by a seed; what is not refused is read."""
    rng, odd = random.Random(0), [None, True, 0, -1, 1.5, 2**70, "", "x", [], {}, [[]], {"id": 1}]
    paths = changed(tmp_path, lambda content: content)
    before = json.loads(paths[0].read_text())
    annotations, refused = load_panoptic_folder(*paths), 0
    for _ in range(400):
        content = copy.deepcopy(before)
        parent: Any = None
        place: Any = content
        while isinstance(place, dict | list) and place and (parent is None or rng.random() < 0.8):
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            parent, place = place, place[key]
        if rng.random() < 0.2:
            del parent[key]
        else:
            parent[key] = rng.choice(odd)
        paths[0].write_text(json.dumps(content))
        for read in (lambda: load_panoptic_folder(*paths), lambda: load_outlines(paths[0], annotations)):
            try:
                read()
            except AnnotationError as error:
                refused += 1
                assert str(error).startswith(str(paths[0]))
    assert 500 < refused < 800


@pytest.mark.skipif(not REPORTS.is_dir(), reason="no reports: name the shared folder in UPSNET_SHARED")
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("e_cities", [1, 2, 3]),
        ("e_strid", ["aachen_000000_000019", "aachen_000001_000019", "bonn_000000_000019"]),
        ("e_mixid", r'images\[1\]: id is "b2" where others are 1'),
        ("e_isthing_str", 'category 1: isthing is "0"; expected 0, 1, true or false'),
        ("t_valorder", [1, 2, 3, 4]),
    ],
)
def test_reported_folders(name: str, outcome: list[int | str] | str) -> None:
    folder = REPORTS / name
    paths = (folder / "panoptic.json", folder / "img", folder / "pan")
    if isinstance(outcome, list):
        assert [record.id for record in load_panoptic_folder(*paths).images] == outcome
    else:
        with pytest.raises(AnnotationError, match=rf"/{name}/panoptic\.json: {outcome}"):
            load_panoptic_folder(*paths)


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

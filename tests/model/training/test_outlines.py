"""Boxes and polygons of an instances file, in place of those of the PNGs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import build_network
from model.datasets.records import AnnotationError
from model.training import outlines
from model.training.dataset import PanopticDataset
from model.training.outlines import Outline
from model.training.recipe import RECIPES
from model.training.step import mask_targets
from tests.model.training.street import read_street


def write_instances(folder: Path) -> Path:
    square = [10.0, 20.0, 40.0, 20.0, 40.0, 44.0, 10.0, 44.0]
    entries = [
        {"segmentation": [square, [1, 2, 3, 4]], "bbox": [10, 20, 31, 25], "area": 700, "iscrowd": 0, "category_id": 9},
        {"segmentation": {"counts": [9], "size": [64, 96]}, "bbox": [80, 0, 40, 9], "iscrowd": 1, "category_id": 10},
        {"segmentation": [square], "bbox": [10, 20, 1, 25], "area": 20, "iscrowd": 0, "category_id": 9},
    ]
    annotations = [{"id": i, "image_id": 0, "area": 300, **entry} for i, entry in enumerate(entries)]
    images = [{"id": number, "width": 96, "height": 64} for number in range(4)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_outlines_replace_boxes_masks_and_polygons(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    found = outlines.load_outlines(write_instances(tmp_path), annotations)
    assert [(outline.kind, outline.box, outline.iscrowd) for outline in found[0]] == [
        (1, (10, 20, 40, 44), False),  # a ring of two points is dropped, a box of one column is no box
        (2, (80, 0, 95, 8), True),  # cut at the photo
    ]
    network = build_network("camvid_demo", annotations.categories)
    recipe = replace(RECIPES["coco_r50"](), short_sides=(64,))
    dataset = PanopticDataset(annotations, recipe, network.transform, found)
    plain, flipped = (next(s for e in range(9) if (s := dataset.sample(0, e)).boxes[0, 0] == x) for x in (10, 55))
    assert flipped.boxes.tolist() == [[55, 20, 85, 44]]
    assert plain.masks.sum() == 31 * 25  # PIL fills both ends
    assert torch.equal(plain.masks.flip(2), flipped.masks)
    assert flipped.crowd_boxes.tolist() == [[0, 0, 15, 8]]
    assert mask_targets(plain.boxes, plain).mean() > 0.9


SQUARE = [10.0, 20.0, 40.0, 20.0, 40.0, 44.0, 10.0, 44.0]


@pytest.mark.parametrize(
    ("place", "fault", "reason"),
    [
        ("annotations", {"iscrowd": 0, "segmentation": {"counts": [9]}}, " is no crowd and has no polygons"),
        ("annotations", {"iscrowd": "1"}, ': iscrowd is "1"; expected 0, 1, true or false'),
        ("annotations", {"ignore": None}, ": ignore is null; expected 0, 1, true or false"),
        ("annotations", {"image_id": 7}, " is of image 7, which is not listed in images"),
        ("annotations", {"image_id": "0"}, ': image_id is "0" where others are 0'),
        ("annotations", {"category_id": 1}, " has category 1, which is no thing of the data set"),
        ("annotations", {"category_id": 99}, " has category 99, which is no thing of the data set"),
        ("annotations", {"category_id": "car"}, ': category_id is "car"; expected a whole number'),
        ("annotations", {"bbox": [0, 0, 5]}, ": bbox has 3 numbers; expected x, y, width and height"),
        ("annotations", {"bbox": [0, 0, None, 5]}, ": a number of bbox is null; expected a number"),
        ("annotations", {"bbox": None}, ": bbox is null; expected a list"),
        ("annotations", {"area": "big"}, ': area is "big"; expected a number'),
        ("annotations", {"area": float("nan")}, ": area is NaN; expected a number"),
        ("annotations", {"iscrowd": 0, "segmentation": [SQUARE[:-1]]}, ": a polygon has 7 numbers; expected pairs"),
        ("annotations", {"iscrowd": 0, "segmentation": [5]}, ": a polygon is 5; expected a list"),
        ("annotations", {"iscrowd": 0, "segmentation": [["x"] * 6]}, ': a number of a polygon is "x"; expected a num'),
        ("annotations", {"segments_info": []}, " has segments_info; expected a COCO instances file"),
        ("images", {"id": 2}, "image 2 is listed twice in images"),
        ("images", {"id": "1"}, r': id is "1" where others are 0'),
        ("images", {"width": 0}, ": width is 0; expected a whole number from 1"),
        ("images", {"height": None}, ": height is null; expected a whole number from 1"),
        ("categories", {"id": 9, "name": "cat"}, 'category 9 is "cat", and not car'),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_place(
    tmp_path: Path, place: str, fault: dict[str, Any], reason: str
) -> None:
    annotations, path = read_street(tmp_path), write_instances(tmp_path)
    content = {"categories": [{"id": 10, "name": "pedestrian"}, {}], **json.loads(path.read_text())}
    content[place][1].update(fault)
    content["categories"] = [entry for entry in content["categories"] if entry]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=rf"/instances\.json: ({place}\[1\])?{reason}") as error:
        outlines.load_outlines(path, annotations)
    assert "\n" not in str(error.value)


def test_text_is_an_id_too(tmp_path: Path) -> None:
    annotations, path = read_street(tmp_path), write_instances(tmp_path)
    content = json.loads(path.read_text())
    for entry in content["images"]:
        entry["id"] = f"city/{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"city/{entry['image_id']}"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r'images\[0\]: id is "city/0" where others are 0'):
        outlines.load_outlines(path, annotations)
    images = tuple(replace(record, id=f"city/{record.id}") for record in annotations.images)
    found = outlines.load_outlines(path, replace(annotations, images=images))
    assert {number: len(things) for number, things in found.items()} == {
        "city/0": 2,
        "city/1": 0,
        "city/2": 0,
        "city/3": 0,
    }


def test_a_flip_moves_boxes_and_points_and_is_its_own_inverse() -> None:
    outline = Outline(1, (10, 20, 40, 44), False, [[10.0, 20, 40, 20, 40, 44]])
    flipped = outlines.flip(outline, 96)
    assert flipped == Outline(1, (55, 20, 85, 44), False, [[85.0, 20, 55, 20, 55, 44]])
    assert outlines.flip(flipped, 96) == outline

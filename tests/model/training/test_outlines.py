"""Boxes and polygons of an instances file, in place of those of the PNGs."""

import json
from dataclasses import replace
from pathlib import Path

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
    found = outlines.load_outlines(write_instances(tmp_path), annotations.categories)
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


def test_a_thing_without_polygons_is_refused(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    path = write_instances(tmp_path)
    path.write_text(path.read_text().replace('"iscrowd": 1', '"iscrowd": 0'))
    with pytest.raises(AnnotationError, match="annotation 1 is no crowd and has no polygons"):
        outlines.load_outlines(path, annotations.categories)


def test_a_flip_moves_boxes_and_points_and_is_its_own_inverse() -> None:
    outline = Outline(1, (10, 20, 40, 44), False, [[10.0, 20, 40, 20, 40, 44]])
    flipped = outlines.flip(outline, 96)
    assert flipped == Outline(1, (55, 20, 85, 44), False, [[85.0, 20, 55, 20, 55, 44]])
    assert outlines.flip(flipped, 96) == outline

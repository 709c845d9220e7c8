"""Samples of a tiny street."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import build_network
from model.datasets.records import AnnotationError, Annotations, ImageRecord
from model.interface import categories
from model.training import dataset
from model.training.dataset import PanopticDataset, Photo, class_weights, flip, random_crop, read_annotated
from model.training.recipe import RECIPES
from tests.model.training.street import read_street


def test_samples_are_the_same_again_and_crowds_apart(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    recipe = RECIPES["coco_r50"]()
    network = build_network("camvid_demo", annotations.categories)
    samples = PanopticDataset(annotations, recipe, network.transform)
    first, again = samples.sample(1, 3), samples.sample(1, 3)
    assert torch.equal(first.pixels, again.pixels)
    assert first.classes.tolist() == [1, 1]
    assert first.crowd_classes.tolist() == [2]
    assert first.size == (800, 1200)
    assert math.isclose(first.scale, 12.5)
    assert first.masks.shape == (2, 800, 1216)
    photo = read_annotated(annotations.images[0], annotations)
    assert sorted(set(photo.semantic.ravel().tolist())) == [0, 3, 8, 9, 255]


def test_photos_are_upright_as_they_are_served_and_of_their_pngs_size(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    record = annotations.images[0]
    upright = Image.open(record.photo)
    exif = Image.Exif()
    exif[274] = 6  # to be turned to the right, as phones write
    upright.transpose(Image.Transpose.ROTATE_90).save(record.photo, exif=exif)
    assert np.array_equal(read_annotated(record, annotations).rgb, np.asarray(upright))
    upright.resize((10, 12)).save(record.photo)
    with pytest.raises(AnnotationError, match=r"0\.png is 10 x 12, its PNG .*0\.png 96 x 64"):
        read_annotated(record, annotations)


def photo(height: int, width: int) -> Photo:
    """Stuff 0 everywhere but for a thing in the upper left corner."""
    semantic, instances = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    semantic[:4, :4], instances[:4, :4] = 8, 1
    rgb = np.full((height, width, 3), 50, np.uint8)
    rgb[:4, :4] = 200
    return Photo(rgb, semantic, instances, [1], 0)


def test_a_flipped_photo_is_flipped_with_its_labels() -> None:
    flipped = flip(photo(6, 9))
    for array in (flipped.rgb[..., 0] == 200, flipped.semantic == 8, flipped.instances == 1):
        assert np.argwhere(array).min(axis=0).tolist() == [0, 5]
        assert array.sum() == 16


def test_a_crop_larger_than_its_photo_is_void_around_it() -> None:
    cut = random_crop(photo(6, 9), (10, 12), (1.0, 1.0), random.Random(0))
    assert cut.rgb.shape == (10, 12, 3)
    outside = cut.semantic == 255
    assert outside.sum() == 10 * 12 - 6 * 9
    assert (cut.rgb[outside] == 114).all()
    assert (cut.instances == 1).sum() == 16


def test_half_of_all_crops_are_about_a_thing() -> None:
    large = photo(400, 600)
    crops = [random_crop(large, (40, 60), (1.0, 1.0), random.Random(seed)) for seed in range(40)]
    assert 10 < sum((crop.instances == 1).any() for crop in crops) < 30


def test_rare_classes_weigh_more(monkeypatch: pytest.MonkeyPatch) -> None:
    semantic = np.array([[0] * 9999 + [1] * 39_999 + [2] * 159_999], np.uint8)  # and one pixel more of each is counted
    monkeypatch.setattr(dataset, "read_annotated", lambda *_: Photo(semantic, semantic, semantic, [], 0))
    labels = categories.parse({"id": i, "name": str(i), "isthing": 0} for i in range(3))
    annotations = Annotations(labels, (ImageRecord(1, Path("a.jpg"), Path("a.png"), ()),))
    assert class_weights(annotations, 0.5).tolist() == pytest.approx([2, 1, 0.5])
    assert class_weights(annotations, 2.0).tolist() == pytest.approx([4, 1, 0.3])  # 16 and 1 / 16 are cut

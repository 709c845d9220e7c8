"""Samples of a tiny street."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import build_network
from model.datasets.records import AnnotationError, Annotations, ImageRecord, SegmentRecord
from model.interface import categories
from model.interface.codec import encode_png
from model.training import dataset
from model.training.dataset import PanopticDataset, Photo, class_weights, flip, random_crop, read_annotated
from model.training.initialise import initialise
from model.training.recipe import RECIPES
from model.training.step import TrainingStep
from tests.ids import ids_to_rgb
from tests.model.training.street import RECIPE, read_street


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
    assert first.crowds.sum() == 125 * 125  # its 10 x 10 pixels at 12.5 times the size
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
    semantic, instances = np.zeros((height, width), np.uint8), np.zeros((height, width), np.int32)
    semantic[:4, :4], instances[:4, :4] = 8, 1
    rgb = np.full((height, width, 3), 50, np.uint8)
    rgb[:4, :4] = 200
    return Photo(rgb, semantic, instances, [1], 0)


def test_a_flipped_photo_is_flipped_with_its_labels() -> None:
    flipped = flip(photo(6, 9))
    for array in (flipped.rgb[..., 0] == 200, flipped.semantic == 8, flipped.instances == 1):
        assert np.argwhere(array).min(axis=0).tolist() == [0, 5]
        assert array.sum() == 16


def test_more_things_than_a_byte_counts_are_told_apart(tmp_path: Path) -> None:
    ids = np.ones((64, 96), np.int64)
    for number in range(300):
        ids[3 * (number // 30) : 3 * (number // 30) + 3, 3 * (number % 30) : 3 * (number % 30) + 3] = 2 + number
    record = read_street(tmp_path).images[0]
    record.mask.write_bytes(encode_png(ids_to_rgb(ids)))
    labels = categories.load("camvid")
    kinds = {label.name: label.id for label in labels}
    things = [SegmentRecord(2 + number, kinds["car"], number == 0) for number in range(300)]
    segments = (SegmentRecord(1, kinds["road"], False), *things)
    annotations = Annotations(labels, (replace(record, segments=segments),))
    photo = read_annotated(annotations.images[0], annotations)
    assert photo.instances.max() == len(photo.classes) == 300
    assert (photo.crowds, photo.instances[0, 0]) == (1, 300)
    network = build_network("camvid_demo", labels)
    for recipe in (replace(RECIPES["coco_r50"](), short_sides=(64,)), replace(RECIPE, zoom=(1.0, 1.0))):
        sample = PanopticDataset(annotations, recipe, network.transform).sample(0, 0)
        assert len(sample.boxes) == len(sample.masks) == 299
        assert (sample.masks.sum((1, 2)) == 9).all()
        assert sample.crowds.sum() == 9


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 200), (200, 1)])
@pytest.mark.parametrize("crop", [None, (64, 96)])
def test_the_smallest_photos_are_learned_flipped_or_not(
    tmp_path: Path, size: tuple[int, int], crop: tuple[int, int] | None
) -> None:
    record = read_street(tmp_path).images[0]
    Image.new("RGB", (size[1], size[0]), (200, 20, 20)).save(record.photo)
    record.mask.write_bytes(encode_png(ids_to_rgb(np.full(size, 2))))
    labels = categories.load("camvid")
    car = next(label.id for label in labels if label.name == "car")
    annotations = Annotations(labels, (replace(record, segments=(SegmentRecord(2, car, False),)),))
    assert flip(read_annotated(annotations.images[0], annotations)).rgb.shape == (*size, 3)
    torch.manual_seed(0)
    network = build_network("camvid_demo", labels)
    initialise(network)
    recipe = replace(RECIPE, crop=crop, short_sides=(64,), long_side=96)
    samples = [PanopticDataset(annotations, recipe, network.transform).sample(0, epoch) for epoch in range(4)]
    assert len({tuple(sample.pixels.shape) for sample in samples}) == 1
    losses = TrainingStep(network, recipe)(samples)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])


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
    monkeypatch.setattr(
        dataset, "read_annotated", lambda *_: Photo(semantic, semantic, semantic.astype(np.int32), [], 0)
    )
    labels = categories.parse({"id": i, "name": str(i), "isthing": 0} for i in range(3))
    annotations = Annotations(labels, (ImageRecord(1, Path("a.jpg"), Path("a.png"), ()),))
    assert class_weights(annotations, 0.5).tolist() == pytest.approx([2, 1, 0.5])
    assert class_weights(annotations, 2.0).tolist() == pytest.approx([4, 1, 0.3])  # 16 and 1 / 16 are cut

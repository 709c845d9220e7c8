"""Cityscapes' own folders, in small."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.datasets.cityscapes import load_cityscapes
from model.datasets.records import AnnotationError, SegmentRecord, read_ids
from model.evaluate.scores import evaluate
from model.interface import categories
from model.interface.panoptic import Panoptic, Segment
from model.predictor import Analysis


def write_city(folder: Path) -> tuple[Path, Path]:
    """Road, two cars, a group of persons, a caravan (not evaluated) and what is outside the frame."""
    truth, photos = folder / "gtFine/val", folder / "leftImg8bit/val"
    values = np.full((20, 30), 7, np.uint16)
    values[2:6, 2:8], values[2:6, 12:18], values[10:14, 2:8] = 26000, 26001, 24
    values[10:14, 12:18], values[18:] = 29000, 3
    for parent in (truth, photos):
        (parent / "aachen").mkdir(parents=True)
    Image.fromarray(values).save(truth / "aachen/aachen_000000_000019_gtFine_instanceIds.png")
    Image.new("RGB", (30, 20)).save(photos / "aachen/aachen_000000_000019_leftImg8bit.png")
    return truth, photos


def test_a_split_reads_as_it_was_downloaded(tmp_path: Path) -> None:
    annotations = load_cityscapes(*write_city(tmp_path))
    assert annotations.categories == categories.load("cityscapes")
    (record,) = annotations.images
    assert (record.id, annotations.source) == ("aachen_000000_000019", str(tmp_path / "gtFine/val"))
    cars = [SegmentRecord(26000, 26, False), SegmentRecord(26001, 26, False)]
    assert list(record.segments) == [SegmentRecord(7, 7, False), SegmentRecord(24, 24, True), *cars]
    ids = read_ids(record)
    assert [int((ids == value).sum()) for value in (26000, 26001, 24, 7, 0)] == [24, 24, 24, 444, 84]


class AllRoad:
    """Answers that every pixel is road."""

    categories = categories.load("cityscapes")

    def analyze(self, images: list[Any]) -> list[Analysis]:
        (image,) = images
        height, width = image.shape[:2]
        road = Segment(1, 7, "road", False, 1.0, height * width, (0, 0, width, height))
        panoptic = Panoptic(np.ones((height, width), np.uint8), (road,))
        nothing = np.zeros((0, 4), np.float32)
        none = np.zeros(0, np.int64)
        return [Analysis(panoptic, 0 * panoptic.segment_ids, nothing, nothing[:, 0], none, nothing)]


def test_it_is_evaluated_like_any_other(tmp_path: Path) -> None:
    annotations = load_cityscapes(*write_city(tmp_path))
    result = evaluate(AllRoad(), annotations, progress=False).result()
    assert result["per_class"]["road"]["pq"] == pytest.approx(100 * 444 / (600 - 84))  # void does not count
    assert result["per_class"]["car"]["fn"] == 2
    assert "person" not in result["per_class"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    truth, photos = write_city(tmp_path)
    with pytest.raises(AnnotationError, match="expected a split of Cityscapes"):
        load_cityscapes(photos, photos)
    next(photos.glob("*/*.png")).unlink()
    with pytest.raises(AnnotationError, match=r"000019_leftImg8bit\.png does not exist"):
        load_cityscapes(truth, photos)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    truth, photos = write_city(tmp_path)
    for folder in (truth, photos):
        shutil.copytree(folder / "aachen", folder / "bonn")
    with pytest.raises(AnnotationError, match=r"bonn/\S+: \S+/aachen/aachen_000000_000019\S+ has the same name"):
        load_cityscapes(truth, photos)


def test_a_map_that_is_none_is_named(tmp_path: Path) -> None:
    truth, photos = write_city(tmp_path)
    path = next(truth.glob("*/*.png"))
    Image.new("RGB", (30, 20)).save(path)
    with pytest.raises(AnnotationError, match=r"instanceIds\.png has shape .*; instance ids are one 16-bit channel"):
        load_cityscapes(truth, photos)
    path.write_bytes(b"no PNG")
    with pytest.raises(AnnotationError, match=r"instanceIds\.png cannot be read"):
        load_cityscapes(truth, photos)

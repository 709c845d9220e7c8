"""Cityscapes' own folders, in small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.datasets.cityscapes import load_cityscapes
from model.datasets.load import load_annotations
from model.datasets.records import AnnotationError, SegmentRecord, read_ids
from model.evaluate.scores import evaluate
from tests.model.evaluate.test_main import Layers


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
    truth, photos = write_city(tmp_path)
    annotations = load_annotations(truth, photos, None)
    (record,) = annotations.images
    cars = [SegmentRecord(26000, 26, False), SegmentRecord(26001, 26, False)]
    assert list(record.segments) == [SegmentRecord(7, 7, False), SegmentRecord(24, 24, True), *cars]
    ids = read_ids(record)
    assert [int((ids == value).sum()) for value in (26000, 26001, 24, 7, 0)] == [24, 24, 24, 444, 84]


def test_it_is_evaluated_like_any_other(tmp_path: Path) -> None:
    annotations = load_cityscapes(*write_city(tmp_path))
    result = evaluate(Layers(annotations.categories, {"road": 1.0}), annotations, progress=False).result()
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

"""Box and mask AP of detections that are worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.command import CommandError
from model.datasets.records import ImageRecord, SegmentRecord
from model.evaluate import average_precision
from model.evaluate.average_precision import AveragePrecision, encode_instances, paste
from model.predictor import Analysis
from tests.model.datasets.folder import LABELS
from tests.model.evaluate.layers import analysis

RECORD = ImageRecord(1, Path("a"), Path("b"), (SegmentRecord(300, 26, False), SegmentRecord(70_000, 7, False)))
IDS = np.full((60, 60), 70_000, np.int32)
IDS[10:40, 20:50] = 300


def detection(box: tuple[int, int, int, int], category_id: int = 26) -> Analysis:
    """One, with a mask that fills its box."""
    empty = analysis(np.zeros((60, 60), np.uint8), (), np.zeros((60, 60), np.uint8))
    return replace(
        empty,
        boxes=np.array([box], np.float32),
        scores=np.ones(1, np.float32),
        category_ids=np.array([category_id]),
        mask_logits=np.full((1, 28, 28), 9.0, np.float32),
    )


def scores(*found: Analysis) -> dict[str, float]:
    """AP over images with one car each."""
    precision = AveragePrecision(LABELS)
    for number, each in enumerate(found, start=1):
        precision.add(encode_instances(replace(RECORD, id=number), IDS, each, LABELS))
    return precision.result()


def test_detections_equal_to_the_truth_have_full_ap() -> None:
    found = scores(detection((20, 10, 49, 39)))
    assert found["box_ap"] == pytest.approx(100)
    assert found["mask_ap"] > 80


def test_half_the_cars_found_is_half_the_ap() -> None:
    none = analysis(np.zeros((60, 60), np.uint8), (), np.zeros((60, 60), np.uint8))
    assert scores(detection((20, 10, 49, 39)), none)["box_ap"] == pytest.approx(100 * 51 / 101)  # 101 steps of recall


def test_a_detection_elsewhere_has_none() -> None:
    assert scores(detection((0, 50, 5, 59))) == {"box_ap": 0.0, "mask_ap": 0.0}


def test_without_detections_there_is_none() -> None:
    assert scores() == {"box_ap": 0.0, "mask_ap": 0.0}


def test_stuff_is_no_instance() -> None:
    encoded = encode_instances(RECORD, IDS, detection((20, 10, 49, 39)), LABELS)
    assert [(entry["category_id"], entry["area"], entry["bbox"]) for entry in encoded.truth] == [
        (26, 900.0, [20.0, 10.0, 30.0, 30.0])
    ]
    assert [(entry["category_id"], entry["bbox"]) for entry in encoded.found] == [(26, [20, 10, 30, 30])]


def test_images_are_told_apart_by_text_too_and_ties_go_by_id() -> None:
    """A wrong detection among right ones of one score: AP depends on which of them comes first."""
    right, wrong = detection((20, 10, 49, 39)), detection((0, 50, 5, 59))
    by_number, by_text, shuffled = AveragePrecision(LABELS), AveragePrecision(LABELS), AveragePrecision(LABELS)
    images = list(enumerate((right, wrong, right), start=1))
    for precision, named, order in (
        (by_number, int, (0, 1, 2)),
        (by_text, "img {}".format, (0, 1, 2)),
        (shuffled, int, (2, 1, 0)),
    ):
        for place in order:
            number, found = images[place]
            precision.add(encode_instances(replace(RECORD, id=named(number)), IDS, found, LABELS))
    assert by_number.result() == by_text.result() == shuffled.result() == by_number.result()
    assert 50 < by_number.result()["box_ap"] < 60


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average_precision, "find_spec", lambda _: None)
    with pytest.raises(CommandError, match=r"^AP needs pycocotools\. Install it: uv sync --extra train$"):
        AveragePrecision(LABELS)


def test_a_mask_is_pasted_over_its_box_and_cut_at_the_edges() -> None:
    full = np.full((28, 28), 9.0, np.float32)
    inside = paste(full, np.array([10, 10, 29, 29], np.float32), 40, 50)
    assert inside.shape == (40, 50)
    assert inside[11:29, 11:29].all()
    assert inside.sum() == inside[9:31, 9:31].sum()
    corner = paste(full, np.array([-10, -10, 9, 9], np.float32), 40, 50)
    assert corner[:9, :9].all()
    assert corner.sum() == corner[:11, :11].sum()
    assert not paste(full, np.array([100, 100, 120, 120], np.float32), 40, 50).any()

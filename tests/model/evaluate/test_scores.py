"""Scores of a small folder, counted by hand, and of a network that only knows where streets are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.command import CommandError
from model.datasets.load import load_annotations
from model.datasets.records import AnnotationError, Annotations
from model.evaluate.scores import Evaluation, evaluate, to_segment_map
from model.interface import categories
from model.interface.codec import encode_png
from model.interface.panoptic import Panoptic, Segment
from tests.model.datasets.folder import CAR, LABELS, ROAD, write_folder
from tests.model.evaluate.layers import Layers, car_above_road
from tests.paths import ROOT, SHARED


def test_scores_of_a_folder_counted_by_hand(tmp_path: Path) -> None:
    annotations = load_annotations(*car_above_road(tmp_path))
    result = evaluate(Layers(LABELS, {"car": 0.5, "road": 1.0}), annotations, progress=False).result()
    assert result["things"]["pq"] == pytest.approx(100 * 4 / 5)
    assert result["stuff"]["pq"] == pytest.approx(100 * 5 / 6)
    assert result["all"]["pq"] == pytest.approx(100 * (4 / 5 + 5 / 6) / 2)
    assert result["miou"] == pytest.approx(100 * (4 / 5 + 5 / 6) / 2)
    assert (result["box_ap"], result["mask_ap"]) == (0.0, 0.0)
    assert result["per_class"]["car"]["iou"] == pytest.approx(100 * 4 / 5)
    assert result["images"] == 1


def test_processes_count_the_same(tmp_path: Path) -> None:
    annotations = load_annotations(*car_above_road(tmp_path))
    layers = Layers(LABELS, {"car": 0.5, "road": 1.0})
    here, there = (evaluate(layers, annotations, progress=False, processes=n).result() for n in (0, 2))
    assert here == there


def test_without_ap_there_is_none(tmp_path: Path) -> None:
    annotations = load_annotations(*car_above_road(tmp_path))
    result = evaluate(Layers(LABELS, {"car": 1.0}), annotations, with_ap=False, progress=False).result()
    assert (result["box_ap"], result["mask_ap"]) == (None, None)


def test_nothing_evaluated_scores_nothing() -> None:
    result = Evaluation(LABELS).result()
    assert (result["all"]["pq"], result["miou"], result["per_class"], result["images"]) == (0.0, 0.0, {}, 0)


def test_an_answer_becomes_a_segment_map() -> None:
    ids = np.array([[1, 1, 0]], np.uint8)
    found = to_segment_map(Panoptic(ids, (Segment(1, 26, "car", True, 0.9, 2, (0, 0, 2, 1)),)))
    assert (found.ids.tolist(), found.categories, found.crowds) == ([[1, 1, 0]], {1: 26}, frozenset())


@pytest.mark.parametrize(
    ("segments", "part"),
    [
        ([CAR], "id 70000 is in the PNG and not in the JSON"),
        ([CAR, ROAD, {"id": 5, "category_id": 7}], "id 5 is in the JSON and not in the PNG"),
    ],
)
@pytest.mark.parametrize("processes", [0, 1])
def test_wrong_annotations_are_refused_with_file_and_id(
    tmp_path: Path, segments: list[Any], part: str, processes: int
) -> None:
    ids = np.full((4, 4), 70_000)
    ids[:2] = 300
    annotations = load_annotations(*write_folder(tmp_path, segments, ids))
    with pytest.raises(AnnotationError, match=part) as error:
        evaluate(Layers(LABELS, {"road": 1.0}), annotations, progress=False, processes=processes)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("size", "part"),
    [
        ((4, 5), r"a\.png is 5 x 4, its PNG .*a\.png 4 x 4"),
        (None, r"a\.png cannot be read: The image cannot be decoded"),
    ],
)
def test_a_photo_of_another_size_or_damaged_is_refused(tmp_path: Path, size: tuple[int, int] | None, part: str) -> None:
    paths = write_folder(tmp_path, [CAR], np.full((4, 4), 300))
    photo = tmp_path / "photos/a.png"
    photo.write_bytes(photo.read_bytes()[:-30] if size is None else encode_png(np.zeros((*size, 3), np.uint8)))
    with pytest.raises(AnnotationError, match=part):
        evaluate(Layers(LABELS, {"road": 1.0}), load_annotations(*paths), progress=False)


def test_other_categories_are_refused() -> None:
    annotations = Annotations(LABELS, (), "val.json")
    with pytest.raises(
        CommandError, match=r"^val\.json and the network differ in categories: category 7 is road, and not"
    ):
        evaluate(Layers(categories.load("camvid"), {}), annotations, progress=False)


def test_categories_in_another_order_or_fewer_score_the_same(tmp_path: Path) -> None:
    path, photos, masks = car_above_road(tmp_path)
    content = json.loads(path.read_text())
    bus = {"id": 3, "name": "bus", "isthing": 1}
    layers = Layers(categories.parse([bus, *content["categories"]]), {"car": 0.5, "road": 1.0})
    results = []
    for listed in (layers.categories.to_json(), content["categories"][::-1]):
        path.write_text(json.dumps({**content, "categories": listed}))
        results.append(evaluate(layers, load_annotations(path, photos, masks), progress=False).result())
    assert results[0] == results[1]
    assert results[0]["all"]["pq"] == pytest.approx(100 * (4 / 5 + 5 / 6) / 2)


def test_each_image_has_its_quality_by_id(tmp_path: Path) -> None:
    path, photos, masks = car_above_road(tmp_path)
    path.write_text(path.read_text().replace('"image_id": 3', '"image_id": "x"').replace('"id": 3,', '"id": "x",'))
    evaluation = evaluate(Layers(LABELS, {"car": 0.5}), load_annotations(path, photos, masks), progress=False)
    assert evaluation.image_pq == {"x": pytest.approx(100 * 4 / 5 / 2)}
    assert evaluation.result()["images"] == 1


@pytest.mark.skipif(not (SHARED / "data/camvid").is_dir(), reason="no CamVid: name its folder in UPSNET_SHARED")
def test_the_demo_beats_one_who_only_knows_where_streets_are() -> None:
    folder = SHARED / "data/camvid"
    annotations = load_annotations(
        folder / "panoptic_train.json", folder / "train", folder / "panoptic_train", f"{folder / 'splits.json'}:dev_val"
    )
    layers = {"sky": 0.3, "building": 0.55, "road": 1.0}
    result = evaluate(Layers(annotations.categories, layers), annotations, with_ap=False, progress=False).result()
    demo = json.loads((ROOT / "weights/manifest.json").read_text())["camvid_demo.pt"]["scores"]
    print(f"layers: PQ {result['all']['pq']:.1f}, mIoU {result['miou']:.1f}; demo: {demo}")
    assert demo["pq"] > 2 * result["all"]["pq"]
    assert demo["miou"] > 1.5 * result["miou"]

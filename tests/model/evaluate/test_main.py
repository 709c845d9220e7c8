"""Evaluation: on a small folder made here, and against a predictor that only knows where streets are."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.archive import ArchiveError
from model.command import CommandError
from model.datasets.load import load_annotations
from model.datasets.records import AnnotationError
from model.evaluate import __main__ as evaluation
from model.evaluate.__main__ import draw_worst, read_sides, table
from model.evaluate.average_precision import AveragePrecision, instances
from model.evaluate.scores import evaluate
from model.interface import categories
from model.interface.categories import Category, Labels
from model.interface.codec import encode_png
from model.interface.panoptic import Panoptic, Segment
from model.predictor import Analysis
from tests.ids import ids_to_rgb
from tests.paths import DEMO, ROOT

SHARED = Path(os.environ.get("UPSNET_SHARED", ROOT.parent / "shared"))
LABELS = Labels((Category(7, "road", False, (128, 64, 128)), Category(26, "car", True, (0, 0, 142))))


def analysis(ids: np.ndarray, segments: tuple[Segment, ...], semantic: np.ndarray) -> Analysis:
    nothing = np.zeros((0, 4), np.float32)
    masks = np.zeros((0, 28, 28), np.float32)
    empty = nothing[:, 0]
    return Analysis(Panoptic(ids, segments), semantic, nothing, empty, empty.astype(np.int64), masks)


class Layers:
    """Stuff in horizontal layers, by category name and share of the height."""

    def __init__(self, labels: Labels, layers: dict[str, float]) -> None:
        self.categories = labels
        self.layers = layers

    def analyze(self, images: list[Any]) -> list[Analysis]:
        return [self.answer(*image.shape[:2]) for image in images]

    def answer(self, height: int, width: int) -> Analysis:
        ids, semantic = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        index = {label.name: (i, label) for i, label in enumerate(self.categories)}
        segments, top = [], 0
        for number, (name, share) in enumerate(self.layers.items(), start=1):
            i, label = index[name]
            bottom = round(height * share)
            ids[top:bottom], semantic[top:bottom] = number, i
            box = (0, top, width, bottom - top)
            segments.append(Segment(number, label.id, name, label.isthing, 1.0, (bottom - top) * width, box))
            top = bottom
        return analysis(ids, tuple(segments), semantic)


def write_folder(folder: Path, ids: np.ndarray, segments: list[dict[str, Any]]) -> tuple[Path, Path, Path]:
    for name in ("photos", "masks"):
        (folder / name).mkdir(exist_ok=True)
    Image.new("RGB", ids.shape[::-1]).save(folder / "photos/a.png")
    (folder / "masks/a.png").write_bytes(encode_png(ids_to_rgb(ids)))
    content = {
        "images": [{"id": 3, "file_name": "a.png"}],
        "annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": segments}],
        "categories": [label.to_json() for label in LABELS],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json", folder / "photos", folder / "masks"


CAR = {"id": 300, "category_id": 26}
ROAD = {"id": 70_000, "category_id": 7}


def test_scores_of_a_folder_counted_by_hand(tmp_path: Path) -> None:
    ids = np.full((10, 4), 70_000)
    ids[:4] = 300
    annotations = load_annotations(*write_folder(tmp_path, ids, [CAR, ROAD]))
    result = evaluate(Layers(LABELS, {"car": 0.5, "road": 1.0}), annotations, progress=False).result()
    assert result["things"]["pq"] == pytest.approx(100 * 4 / 5)
    assert result["stuff"]["pq"] == pytest.approx(100 * 5 / 6)
    assert result["miou"] == pytest.approx(100 * (4 / 5 + 5 / 6) / 2)
    assert (result["box_ap"], result["mask_ap"]) == (0.0, 0.0)
    assert "road" in table(result)


def test_detections_equal_to_the_truth_have_full_ap() -> None:
    ids = np.full((60, 60), 70_000, np.int32)
    ids[10:40, 20:50] = 300
    segments = (SimpleNamespace(id=300, category_id=26, iscrowd=False),)
    record = SimpleNamespace(id=1, photo=Path("a"), segments=segments)
    logits = np.full((1, 28, 28), 9.0, np.float32)
    boxes = np.array([[20, 10, 49, 39]], np.float32)
    found = analysis(np.zeros((60, 60), np.uint8), (), np.zeros((60, 60), np.uint8))
    exact = Analysis(found.panoptic, found.semantic, boxes, np.ones(1, np.float32), np.array([26]), logits)
    precision = AveragePrecision(LABELS)
    precision.add(instances(record, ids, exact, LABELS))  # type: ignore[arg-type]
    scores = precision.result()
    assert scores["box_ap"] == pytest.approx(100)
    assert scores["mask_ap"] > 80


def test_processes_count_the_same(tmp_path: Path) -> None:
    ids = np.full((10, 4), 70_000)
    ids[:4] = 300
    annotations = load_annotations(*write_folder(tmp_path, ids, [CAR, ROAD]))
    layers = Layers(LABELS, {"car": 0.5, "road": 1.0})
    here, there = (evaluate(layers, annotations, progress=False, processes=n).result() for n in (0, 2))
    assert here == there


def test_short_sides_are_numbers() -> None:
    assert read_sides("320, 480") == [320, 480]
    assert read_sides(None) == []
    with pytest.raises(CommandError, match="expected numbers of pixels"):
        read_sides("320,big")


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ([], ("Predictor", "cpu", "auto")),
        (["--precision", "float32"], ("Predictor", "cpu", "float32")),
        (["--flip", "--precision", "float32"], ("MultiScale", "cpu", [], True, "float32")),
        (["--short-sides", "320,480"], ("MultiScale", "cpu", [320, 480], False, "auto")),
    ],
)
def test_only_the_network_that_is_evaluated_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], opened: tuple[Any, ...]
) -> None:
    calls: list[tuple[Any, ...]] = []

    def opens(name: str) -> Any:
        return lambda _, *rest: (calls.append((name, *rest)), Layers(LABELS, {"car": 1.0}))[1]

    monkeypatch.setattr(evaluation, "Predictor", opens("Predictor"))
    monkeypatch.setattr(evaluation, "MultiScale", SimpleNamespace(of_archive=opens("MultiScale")))
    content, photos, masks = write_folder(tmp_path, np.full((4, 4), 300), [CAR])
    paths = ["--annotations", str(content), "--images", str(photos), "--masks", str(masks)]
    evaluation.main(["a.pt", *paths, "--device", "cpu", *options])
    assert calls == [opened]


@pytest.mark.parametrize("options", [[], ["--flip"]])
def test_half_precision_on_a_cpu_is_refused(tmp_path: Path, options: list[str]) -> None:
    content, photos, masks = write_folder(tmp_path, np.full((4, 4), 300), [CAR])
    paths = ["--annotations", str(content), "--images", str(photos), "--masks", str(masks)]
    with pytest.raises(ArchiveError, match="float16 needs a CUDA device"):
        evaluation.main([str(DEMO), *paths, "--device", "cpu", "--precision", "float16", *options])


@pytest.mark.parametrize(
    ("segments", "part"),
    [
        ([CAR], "id 70000 is in the PNG and not in the JSON"),
        ([CAR, ROAD, {"id": 5, "category_id": 7}], "id 5 is in the JSON and not in the PNG"),
        ([CAR, {"id": 70_000, "category_id": 1}], "segment 70000 has unknown category 1"),
        ([CAR, ROAD, CAR], "segment 300 appears twice"),
    ],
)
def test_wrong_annotations_are_refused_with_file_and_id(tmp_path: Path, segments: list[Any], part: str) -> None:
    ids = np.full((4, 4), 70_000)
    ids[:2] = 300
    paths = write_folder(tmp_path, ids, segments)
    with pytest.raises(AnnotationError, match=part) as error:
        evaluate(Layers(LABELS, {"road": 1.0}), load_annotations(*paths), progress=False)
    assert str(tmp_path) in str(error.value)


def test_segments_of_an_unknown_image_are_refused(tmp_path: Path) -> None:
    path, *folders = write_folder(tmp_path, np.full((4, 4), 300), [CAR])
    path.write_text(path.read_text().replace('"image_id": 3', '"image_id": 5'))
    with pytest.raises(AnnotationError, match=r"a\.json is not .*: image 5 has segments and is not listed"):
        load_annotations(path, *folders)


def test_a_missing_photo_is_refused(tmp_path: Path) -> None:
    paths = write_folder(tmp_path, np.full((4, 4), 300), [CAR])
    (tmp_path / "photos/a.png").unlink()
    with pytest.raises(AnnotationError, match=r"image 3: .*a\.png does not exist"):
        load_annotations(*paths)


@pytest.mark.parametrize(
    ("size", "part"),
    [((4, 5), r"a\.png is 5 x 4, its PNG .*a\.png 4 x 4"), (None, r"a\.png cannot be read: The image is damaged")],
)
def test_a_photo_of_another_size_or_damaged_is_refused(tmp_path: Path, size: tuple[int, int] | None, part: str) -> None:
    paths = write_folder(tmp_path, np.full((4, 4), 300), [CAR])
    photo = tmp_path / "photos/a.png"
    photo.write_bytes(photo.read_bytes()[:-30] if size is None else encode_png(np.zeros((*size, 3), np.uint8)))
    with pytest.raises(AnnotationError, match=part):
        evaluate(Layers(LABELS, {"road": 1.0}), load_annotations(*paths), progress=False)


def test_the_worst_images_are_drawn_and_named_by_their_quality(tmp_path: Path) -> None:
    annotations = load_annotations(*write_folder(tmp_path, np.full((100, 40), 300), [CAR]))
    layers = Layers(LABELS, {"car": 0.6, "road": 1.0})
    draw_worst(layers, annotations, evaluate(layers, annotations, progress=False), tmp_path / "worst")
    (picture,) = (tmp_path / "worst").iterdir()
    assert picture.name == "030.0_a.png"  # car 60 of 100 rows, road found and not there: (60 + 0) / 2
    with Image.open(picture) as drawn:
        assert drawn.size == (40, 100)


def test_other_categories_are_refused(tmp_path: Path) -> None:
    annotations = load_annotations(*write_folder(tmp_path, np.full((4, 4), 300), [CAR]))
    with pytest.raises(CommandError, match="differ in categories"):
        evaluate(Layers(categories.load("camvid"), {"road": 1.0}), annotations, progress=False)


@pytest.mark.skipif(not (SHARED / "data/camvid").is_dir(), reason="no CamVid: name its folder in UPSNET_SHARED")
def test_the_demo_beats_one_who_only_knows_where_streets_are() -> None:
    folder = SHARED / "data/camvid"
    masks, ids = folder / "panoptic_train", f"{folder / 'splits.json'}:dev_val"
    annotations = load_annotations(folder / "panoptic_train.json", folder / "train", masks, ids)
    layers = {"sky": 0.3, "building": 0.55, "road": 1.0}
    result = evaluate(Layers(annotations.categories, layers), annotations, with_ap=False, progress=False).result()
    demo = json.loads((ROOT / "weights/manifest.json").read_text())["camvid_demo.pt"]["scores"]
    print(f"layers: PQ {result['all']['pq']:.1f}, mIoU {result['miou']:.1f}; demo: {demo}")
    assert demo["pq"] > 2 * result["all"]["pq"]
    assert demo["miou"] > 1.5 * result["miou"]

"""`model.evaluate` as a user types it: the table, the pictures, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.datasets.load import load_annotations
from model.evaluate import __main__ as evaluation
from model.evaluate.__main__ import draw_worst, table
from model.evaluate.scores import evaluate
from tests.model.datasets.folder import CAR, LABELS, write_folder
from tests.model.evaluate.layers import Layers, car_above_road
from tests.model.typed import typed
from tests.paths import DEMO


def words_of(paths: tuple[Path, Path, Path]) -> list[str]:
    """The words that name an annotated folder."""
    content, photos, masks = map(str, paths)
    return ["--annotations", content, "--images", photos, "--masks", masks, "--device", "cpu"]


def test_the_table_has_a_row_a_category_and_every_score(tmp_path: Path) -> None:
    annotations = load_annotations(*car_above_road(tmp_path))
    result = evaluate(Layers(LABELS, {"car": 0.5, "road": 1.0}), annotations, progress=False).result()
    lines = table(result).splitlines()
    assert lines[1].split() == ["road", "83.3", "83.3", "100.0", "83.3", "1", "0", "0"]
    assert lines[2].split() == ["car", "80.0", "80.0", "100.0", "80.0", "1", "0", "0"]
    assert lines[-1] == "mIoU 81.7, box ap 0.0, mask ap 0.0; 1 images"
    assert table({**result, "box_ap": None, "mask_ap": None}).splitlines()[-1] == "mIoU 81.7; 1 images"


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ([], ("Predictor", "cpu", "auto")),
        (["--precision", "float32"], ("Predictor", "cpu", "float32")),
        (["--flip", "--precision", "float32"], ("MultiScale", "cpu", [], True, "float32")),
        (["--short-sides", "320, 480"], ("MultiScale", "cpu", [320, 480], False, "auto")),
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
    scores, worst = tmp_path / "scores.json", tmp_path / "worst"
    words = [*words_of(write_folder(tmp_path, [CAR], np.full((4, 4), 300))), *options]
    evaluation.main(["a.pt", *words, "--json", str(scores), "--worst", str(worst)])
    assert calls == [opened]
    assert json.loads(scores.read_text())["all"] == {"pq": 100.0, "sq": 100.0, "rq": 100.0}
    assert [path.name for path in worst.iterdir()] == ["100.0_a.png"]


def test_the_worst_images_are_drawn_and_named_by_their_quality(tmp_path: Path) -> None:
    annotations = load_annotations(*write_folder(tmp_path, [CAR], np.full((100, 40), 300)))
    layers = Layers(LABELS, {"car": 0.6, "road": 1.0})
    image_pq = evaluate(layers, annotations, progress=False).image_pq
    draw_worst(layers, annotations, image_pq, tmp_path / "worst")
    (picture,) = (tmp_path / "worst").iterdir()
    assert picture.name == "030.0_a.png"  # car 60 of 100 rows, road found and not there: (60 + 0) / 2
    with Image.open(picture) as drawn:
        assert drawn.size == (40, 100)


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        (["--precision", "float16"], 1, "error: Precision float16 needs a CUDA device; use float32 on a CPU.\n"),
        (["--precision", "float16", "--flip"], 1, "error: Precision float16 needs a CUDA device"),
        (["--short-sides", "320,big"], 2, "--short-sides: expected a whole number above 0, got 'big'"),
        (["--processes", "-1"], 2, "--processes: expected a whole number, 0 or more, got '-1'"),
        ([], 1, "error: Archive and annotations differ in categories"),
    ],
)
def test_wrong_words_are_refused_with_a_reason(
    tmp_path: Path, options: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(write_folder(tmp_path, [CAR], np.full((4, 4), 300)))
    assert typed("model.evaluate", str(DEMO), *words, *options) == status
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        (None, r"a.json is not a COCO-panoptic file: "),
        ({"categories": [{"id": 1, "isthing": 0}]}, "needs id, name, isthing"),
        ({"categories": LABELS.to_json() * 2}, "category ids [7, 26] appear twice"),
        ({"annotations": []}, "a.json has no images to evaluate on."),
    ],
)
def test_wrong_annotations_are_refused_with_a_reason(
    tmp_path: Path, changed: dict[str, Any] | None, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_folder(tmp_path, [CAR], np.full((4, 4), 300))
    content = json.loads(paths[0].read_text())
    paths[0].write_text("{" if changed is None else json.dumps({**content, **changed}))
    assert typed("model.evaluate", str(DEMO), *words_of(paths)) == 1
    assert part in capsys.readouterr().err


def test_ids_need_a_file_and_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(write_folder(tmp_path, [CAR], np.full((4, 4), 300)))
    (tmp_path / "ids.json").write_text('{"val": ["x"]}')
    for wrong in (f"{tmp_path}/ids.json:train", f"{tmp_path}/ids.json:val", f"{tmp_path}/no.json:val"):
        assert typed("model.evaluate", str(DEMO), *words, "--ids", wrong) == 1
        assert capsys.readouterr().err.startswith("error: ")

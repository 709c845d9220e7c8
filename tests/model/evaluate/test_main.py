"""`model.evaluate` as a user types it: the table, the pictures, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model import archive, export
from model.checkpoint import Checkpoint, build_network
from model.datasets.load import load_annotations
from model.evaluate import __main__ as evaluation
from model.evaluate.__main__ import draw_worst, table
from model.evaluate.scores import evaluate
from model.interface import categories
from model.training.initialise import initialise
from tests.model.datasets.folder import CAR, LABELS, write_cities, write_folder
from tests.model.evaluate.layers import Layers, car_above_road
from tests.model.typed import typed
from tests.paths import DEMO, ROOT, SHARED
from tests.resilience.client import tree

REPORTS = SHARED / "faults/reports/folders"


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
    assert image_pq == {3: pytest.approx(30)}
    draw_worst(layers, annotations, image_pq, tmp_path / "worst")
    (picture,) = (tmp_path / "worst").iterdir()
    assert picture.name == "030.0_a.png"  # car 60 of 100 rows, road found and not there: (60 + 0) / 2
    with Image.open(picture) as drawn:
        assert drawn.size == (40, 100)


def test_pictures_of_ten_are_told_apart_by_path_and_ties_stay_in_order(tmp_path: Path) -> None:
    cities = [f"city{number:02}" for number in range(12)]
    annotations = load_annotations(*write_cities(tmp_path, *cities))
    image_pq = {record.id: float(record.id == 5) for record in annotations.images}
    draw_worst(Layers(LABELS, {"car": 0.5}), annotations, image_pq, tmp_path / "worst")
    names = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert names == [f"000.0_{city}_1.png" for city in cities[:11] if city != "city04"]


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        (
            ["--precision", "float16"],
            1,
            "error: Precision float16 needs a CUDA device; use float32 or bfloat16 on a CPU.\n",
        ),
        (["--precision", "float16", "--flip"], 1, "error: Precision float16 needs a CUDA device"),
        (["--short-sides", "320,big"], 2, "--short-sides: expected a whole number above 0, got 'big'"),
        (["--processes", "-1"], 2, "--processes: expected a whole number, 0 or more, got '-1'"),
        ([], 1, "a.json and the network differ in categories: category 7 is road, and not "),
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
        ({"annotations": []}, "a.json has no images with annotations."),
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


@pytest.mark.parametrize(
    ("outputs", "part"),
    [
        (["--json", "{0}"], " is a folder: name a file in it to write to."),
        (["--json", "{0}/a.json/x.json"], "a.json is no folder: name one to write to."),
        (["--json", "/proc/x.json"], "/proc cannot be written to: "),
        (["--worst", "{0}/a.json"], "a.json is no folder: name one to write to."),
        (["--worst", "{0}/a.json/worst"], "a.json/worst cannot be written to: Not a directory."),
        (["--worst", "{0}/x", "--json", "{0}/x"], "/x is a folder: name a file in it to write to."),
        (["--json", "{0}/masks/../a.json"], "a.json is read by this command too: name another file to write to."),
    ],
)
def test_outputs_are_checked_before_anything_is_read(
    tmp_path: Path, outputs: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(write_folder(tmp_path, [CAR], np.full((4, 4), 300)))
    assert typed("model.evaluate", "no.pt", *words, *[word.format(tmp_path) for word in outputs]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


@pytest.mark.parametrize("kind", ["photos", "masks"])
def test_scores_never_take_the_place_of_a_photo_or_its_png(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(write_folder(tmp_path, [CAR], np.full((4, 4), 300)))
    (given,) = (tmp_path / kind).iterdir()
    content = given.read_bytes()
    assert typed("model.evaluate", "no.pt", *words, "--json", str(given)) == 1
    assert capsys.readouterr().err == f"error: {given} is read by this command too: name another file to write to.\n"
    assert given.read_bytes() == content


def test_folders_of_outputs_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "Predictor", lambda *_: Layers(LABELS, {"car": 0.5, "road": 1.0}))
    words = [*words_of(write_cities(tmp_path, "aachen", "bonn")), "--worst", f"{tmp_path}/new/worst"]
    evaluation.main(["a.pt", *words, "--json", f"{tmp_path}/other/scores.json"])
    assert json.loads((tmp_path / "other/scores.json").read_text())["images"] == 2
    assert {path.name for path in (tmp_path / "new/worst").iterdir()} == {"100.0_aachen_1.png", "100.0_bonn_1.png"}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with random weights that knows the classes of the reported folders."""
    folder = tmp_path_factory.mktemp("shapes")
    names = {1: "ground", 2: "air", 7: "box", 8: "disc"}
    labels = categories.parse({"id": i, "name": name, "isthing": int(i > 2)} for i, name in names.items())
    torch.manual_seed(0)
    network = build_network("camvid_demo", labels, short_side=64, long_side=96)
    initialise(network)
    scale = {"short_side": 64, "long_side": 96}
    Checkpoint("camvid_demo", labels, network.state_dict(), {}, scale).save(folder / "a.safetensors")
    export.main([str(folder / "a.safetensors"), "--out", str(folder / "a.pt")])
    return folder / "a.pt"


@pytest.mark.skipif(not REPORTS.is_dir(), reason="no reports: name the shared folder in UPSNET_SHARED")
@pytest.mark.parametrize(
    ("name", "options", "images"),
    [
        ("e_cities", ["--worst", "{0}/worst"], 3),
        ("e_strid", ["--ids", f"{REPORTS}/e_strid/ids.json:val", "--worst", "{0}/worst"], 1),
        ("e_strid", ["--flip"], 3),
        ("e_mixid", [], 0),
        ("e_isthing_str", [], 0),
        ("t_valorder", ["--json", "{0}/nofolder/x.json"], 4),
    ],
)
def test_reported_folders(
    name: str, options: list[str], images: int, tmp_path: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = REPORTS / name
    words = words_of((folder / "panoptic.json", folder / "img", folder / "pan"))
    scores = ["--json", f"{tmp_path}/scores.json", *[word.format(tmp_path) for word in options]]
    status = typed("model.evaluate", str(shapes), *words, *scores)
    out, err = capsys.readouterr()
    if not images:
        (line,) = err.splitlines()
        assert (status, out) == (1, "")
        assert line.startswith(f"error: {folder}/panoptic.json: ")
        return
    assert (status, out.splitlines()[-1].endswith(f"; {images} images")) == (0, True)
    written = Path(scores[-1]) if "--json" in options else tmp_path / "scores.json"
    assert json.loads(written.read_text())["images"] == images
    if "--worst" in options:
        pictures = [path.stem[6:] for path in (tmp_path / "worst").iterdir()]
        photos = sorted((folder / "img").rglob("*.*"))
        assert len(set(pictures)) == images
        assert set(pictures) <= {photo.stem for photo in photos} | {f"{p.parent.name}_{p.stem}" for p in photos}


def test_neither_order_nor_number_of_categories_changes_a_score(tmp_path: Path, shapes: Path) -> None:
    """Of a photo with two of the four classes that the archive knows."""
    path, *folders = write_folder(tmp_path, [{"id": 300, "category_id": 7}, {"id": 70_000, "category_id": 1}])
    content, scores = json.loads(path.read_text()), []
    ground, box = {"id": 1, "name": "ground", "isthing": 0}, {"id": 7, "name": "box", "isthing": 1}
    others = [{"id": 2, "name": "air", "isthing": 0}, {"id": 8, "name": "disc", "isthing": 1}]
    for listed in ([ground, box, *others], [*others, box, ground], [ground, box]):
        path.write_text(json.dumps({**content, "categories": listed}))
        words = [*words_of((path, *folders)), "--json", f"{tmp_path}/scores.json"]
        assert typed("model.evaluate", str(shapes), *words) == 0
        scores.append(json.loads((tmp_path / "scores.json").read_text()))
    assert scores[0] == scores[1] == scores[2]
    assert {"ground", "box"} <= set(scores[0]["per_class"])


def test_an_interrupt_is_one_line_from_all_processes(tiny_archive: Path, tmp_path: Path) -> None:
    """Those that score answers get it too: here they are still importing."""
    picture = archive.sample_picture(40, 60).permute(1, 2, 0).numpy()
    (tmp_path / "in").mkdir()
    for number in range(30):
        Image.fromarray(picture).save(tmp_path / f"in/{number}.png")
    assert typed("model.predict", str(tiny_archive), str(tmp_path / "in"), "--out", str(tmp_path / "o")) == 0
    words = words_of((tmp_path / "o/panoptic.json", tmp_path / "in", tmp_path / "o/panoptic"))
    command = [sys.executable, "-m", "model.evaluate", str(tiny_archive), *words, "--processes", "1"]
    run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    assert run.stderr
    said = b""
    with run.stderr:
        while len(tree(run.pid)) < 3:  # it, what tracks its shared memory, and one that scores
            assert run.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(run.pid, signal.SIGINT)
        said = run.stderr.read()
    assert run.wait() == 130
    assert said.endswith(b"stopped\n")
    assert b"Traceback" not in said

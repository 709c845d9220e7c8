"""A network in training is scored and drawn."""

import json
from pathlib import Path

import pytest
import torch

from model.checkpoint import build_network
from model.datasets.load import load_annotations
from model.datasets.records import Annotations, read_photo
from model.interface.categories import Labels
from model.training.history import History
from model.training.initialise import initialise
from model.training.validation import PICTURES, EagerAnalyzer, Validation
from tests.model.training.street import read_street
from tests.paths import SHARED


def test_tensorboard_gets_scores_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    annotations = read_street(tmp_path)
    torch.manual_seed(0)
    network = build_network("camvid_demo", annotations.categories)
    initialise(network)
    with History(tmp_path / "run", 0) as history:
        Validation(annotations)(network, history, 1)
        history.flush()
    board = EventAccumulator(str(tmp_path / "run")).Reload()
    assert sorted(board.Tags()["scalars"]) == [f"validation/{name}" for name in ("miou", "pq", "pq_stuff", "pq_things")]
    assert len(board.Tags()["images"]) == PICTURES
    picture = board.Images("0")[0]
    assert (picture.width, picture.height) == (96, 64)
    assert "step 1: pq " in capsys.readouterr().out


def record(folder: Path, annotations: Annotations, labels: Labels) -> tuple[list[float], list[bytes]]:
    """Scores and pictures of a network with random weights for these labels, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    torch.manual_seed(0)
    network = build_network("camvid_demo", labels, short_side=64, long_side=96)
    initialise(network)
    with History(folder, 0) as history:
        Validation(annotations)(network, history, 1)
        history.flush()
    board = EventAccumulator(str(folder)).Reload()
    scores = [event.value for tag in board.Tags()["scalars"] for event in board.Scalars(tag)]
    return scores, [board.Images(tag)[0].encoded_image_string for tag in sorted(board.Tags()["images"])]


def test_neither_order_nor_number_of_categories_changes_scores_or_pictures(tmp_path: Path) -> None:
    trained = read_street(tmp_path)
    path = tmp_path / "street.json"
    content, used = json.loads(path.read_text()), {s.category_id for i in trained.images for s in i.segments}
    expected = record(tmp_path / "same", trained, trained.categories)
    few = [entry for entry in content["categories"] if entry["id"] in used]
    assert len(few) < len(trained.categories)
    for listed in (content["categories"][::-1], few, [{**entry, "color": None} for entry in few]):
        path.write_text(json.dumps({**content, "categories": listed}))
        read = load_annotations(path, tmp_path / "photos", tmp_path / "masks").relabel(trained.categories)
        found = record(tmp_path / f"run{len(listed)}{listed[0]['color']}", read, trained.categories)
        assert found == expected


@pytest.mark.skipif(not (SHARED / "faults/reports/folders").is_dir(), reason="no reports: name them in UPSNET_SHARED")
def test_reported_order(tmp_path: Path) -> None:
    folder = SHARED / "faults/reports/folders/t_valorder"
    annotations = load_annotations(folder / "panoptic.json", folder / "img", folder / "pan")
    labels = Labels(tuple(sorted(annotations.categories, key=lambda category: category.id)))
    assert labels.names == ("ground", "air", "box", "disc")
    relabelled = annotations.relabel(labels)
    assert (relabelled.categories, relabelled.images) == (labels, annotations.images)
    scores, pictures = record(tmp_path, relabelled, labels)
    assert (len(scores), len(pictures)) == (4, PICTURES)


def test_an_answer_covers_the_photo_and_names_its_classes(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    torch.manual_seed(0)
    network = build_network("camvid_demo", annotations.categories)
    initialise(network)
    (found,) = EagerAnalyzer(network, annotations.categories).analyze([read_photo(annotations.images[0])])
    assert found.panoptic.segment_ids.shape == found.semantic.shape == (64, 96)
    assert {segment.category_id for segment in found.panoptic.segments} <= set(annotations.categories.ids)

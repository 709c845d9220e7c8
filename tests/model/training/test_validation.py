"""A network in training is scored and drawn."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import build_network
from model.datasets.records import read_photo
from model.training.history import History
from model.training.initialise import initialise
from model.training.validation import PICTURES, EagerAnalyzer, Validation
from tests.model.training.street import read_street


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


def test_an_answer_covers_the_photo_and_names_its_classes(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    torch.manual_seed(0)
    network = build_network("camvid_demo", annotations.categories)
    initialise(network)
    (found,) = EagerAnalyzer(network, annotations.categories).analyze([read_photo(annotations.images[0])])
    assert found.panoptic.segment_ids.shape == found.semantic.shape == (64, 96)
    assert {segment.category_id for segment in found.panoptic.segments} <= set(annotations.categories.ids)

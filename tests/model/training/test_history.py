"""What a run leaves for people, read back."""

import json
from pathlib import Path

import pytest
import torch

from model.checkpoint import build_network
from model.command import CommandError
from model.datasets.load import load_annotations
from model.training.history import History
from model.training.initialise import initialise
from model.training.validation import PICTURES, Validation
from tests.model.training.street import write_street


def test_tensorboard_has_losses_scores_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_street(tmp_path)
    annotations = load_annotations(tmp_path / "street.json", tmp_path / "photos", tmp_path / "masks")
    torch.manual_seed(0)
    network = build_network("camvid_demo", annotations.categories)
    initialise(network)
    with History(tmp_path / "run", 0) as history:
        history.add(0, {"total": 2.5})
        Validation(annotations)(network.eval(), history, 1)
        history.flush()
    board = EventAccumulator(str(tmp_path / "run")).Reload()
    scalars = ["train/total", *(f"validation/{name}" for name in ("pq", "pq_stuff", "pq_things", "miou"))]
    assert sorted(board.Tags()["scalars"]) == sorted(scalars)
    assert board.Scalars("train/total")[0].value == 2.5
    assert len(board.Tags()["images"]) == PICTURES
    picture = board.Images("0")[0]
    assert (picture.width, picture.height) == (96, 64)


def test_a_resumed_run_drops_the_losses_of_steps_that_it_repeats(tmp_path: Path) -> None:
    with History(tmp_path, 0) as history:
        for step in range(4):
            history.add(step, {"total": 1.0})
    with History(tmp_path, 2) as history:
        history.add(2, {"total": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(0, 1.0), (1, 1.0), (2, 0.5)]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with History(tmp_path, 0) as history:
        history.add(0, {"total": 1.0})
        with pytest.raises(CommandError, match="Another run is writing to"):
            History(tmp_path, 0)
    assert json.loads((tmp_path / "losses.jsonl").read_text())["total"] == 1.0

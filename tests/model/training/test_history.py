"""What a run leaves for people, read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.command import CommandError
from model.training.history import History


def test_tensorboard_has_losses_scores_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with History(tmp_path, 0) as history:
        history.add(0, {"total": 2.5})
        history.add_scores(1, {"pq": 40.0})
        history.add_picture(1, "street", np.zeros((64, 96, 3), np.uint8))
        history.flush()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert board.Scalars("train/total")[0].value == 2.5
    assert board.Scalars("validation/pq")[0].value == 40
    picture = board.Images("street")[0]
    assert (picture.width, picture.height) == (96, 64)


def test_a_resumed_run_drops_the_losses_of_steps_that_it_repeats(tmp_path: Path) -> None:
    with History(tmp_path, 0) as history:
        for step in range(4):
            history.add(step, {"total": 1.0})
    with History(tmp_path, 2) as history:
        history.add(2, {"total": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(0, 1.0), (1, 1.0), (2, 0.5)]


def line(step: int, total: float = 1.0) -> str:
    return json.dumps({"step": step, "total": total}) + "\n"


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("", ""),
        (line(0) + line(1) + line(2), line(0) + line(1)),
        (line(0) + line(1) + line(2)[:-9], line(0) + line(1)),  # a stop cut the last line
        (line(0) + line(1)[:-1], line(0) + line(1)),
        (line(0) + line(1)[:-9], line(0)),
        (line(0) + line(2) + line(3), line(0)),  # step 1 was never written
        (line(1) + line(2), line(1)),
        (
            line(0) + line(1) + line(2) + line(1, 0.5) + line(2, 0.5),
            line(0) + line(1, 0.5),
        ),  # as older versions left it
        (line(0) + "\0\0\0\n" + line(1), line(0) + line(1)),
        ("[" * 9999 + "\n" + line(1), line(1)),
        ('7\n{"total": 1}\n{"step": "0"}\n{"step": true}\n\n' + line(-1) + line(1), line(1)),
    ],
)
def test_losses_are_kept_by_their_step_and_each_once(tmp_path: Path, content: str, kept: str) -> None:
    (tmp_path / "losses.jsonl").write_text(content)
    with History(tmp_path, 2) as history:
        history.add(2, {"total": 0.25})
    assert (tmp_path / "losses.jsonl").read_text() == kept + line(2, 0.25)


def test_what_is_flushed_is_in_the_file(tmp_path: Path) -> None:
    with History(tmp_path, 0) as history:
        history.add(0, {"total": 1.0})
        assert (tmp_path / "losses.jsonl").read_text() == ""
        history.flush()
        assert (tmp_path / "losses.jsonl").read_text() == line(0)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with History(tmp_path, 0) as history:
        history.add(0, {"total": 1.0})
        with pytest.raises(CommandError, match="Another run is writing to"):
            History(tmp_path, 0)
    assert json.loads((tmp_path / "losses.jsonl").read_text())["total"] == 1.0

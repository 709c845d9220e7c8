"""A run goes on from its folder, or says in one line why it cannot."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint
from model.interface import categories
from model.training import state
from model.training.recipe import RECIPES, Recipe
from model.training.state import StateError
from tests.model.training.street import RECIPE, trainer

KINDS: list[dict[str, Any]] = [
    {"id": 1, "name": "ground", "isthing": 0},
    {"id": 2, "name": "air", "isthing": 0},
    {"id": 7, "name": "box", "isthing": 1},
    {"id": 8, "name": "disc", "isthing": 1},
]
LABELS = categories.parse(KINDS)


def content(recipe: Recipe = RECIPE, processes: int = 1) -> dict[str, Any]:
    """The state of a run whose network is a single number."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([weight]) if recipe.optimizer == "adamw" else torch.optim.SGD([weight], 0.1)
    parts = {"network": {"a": torch.ones(1)}, "average": {"a": torch.ones(1)}, "optimizer": optimizer.state_dict()}
    return {**parts, "steps": 6, "seconds": 1.5, "run": state.facts(recipe, LABELS, processes)}


def write(folder: Path, saved: dict[str, Any]) -> Path:
    """A folder with the state and its checkpoint."""
    folder.mkdir()
    Checkpoint("camvid_demo", LABELS, {"a": torch.ones(1)}).save(folder / "checkpoint.safetensors")
    state.write(folder, saved)
    return folder


def test_a_state_reads_as_it_was_written(tmp_path: Path) -> None:
    assert state.read(tmp_path, {}) is None
    folder = write(tmp_path / "run", content())
    found = state.read(folder, state.facts(replace(RECIPE, steps=9, minutes=3.0), LABELS, 1))  # more of both
    assert found is not None
    assert (found["steps"], found["seconds"]) == (6, 1.5)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.safetensors", "state.pt"]


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ([KINDS[1], KINDS[0], *KINDS[2:]], r"class 0 is 'ground' \(id 1, stuff\), not 'air' \(id 2, stuff\)"),
        ([*KINDS[:2], KINDS[3], KINDS[2]], r"class 2 is 'box' \(id 7, thing\), not 'disc' \(id 8, thing\)"),
        ([*KINDS[:3], KINDS[3] | {"id": 9}], r"class 3 is 'disc' \(id 8, thing\), not 'disc' \(id 9, thing\)"),
        ([*KINDS[:3], KINDS[3] | {"name": "Disc"}], "not 'Disc'"),
        ([KINDS[0], KINDS[1] | {"isthing": 1}, *KINDS[2:]], r"class 1 is 'air' .*, not 'air' \(id 2, thing\)"),
        (KINDS[:3], "4, not 3"),
        ([*KINDS, KINDS[3] | {"id": 9}], "4, not 5"),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_other_categories_are_refused(tmp_path: Path, kinds: list[dict[str, Any]], told: str, older: bool) -> None:
    saved = content()
    if older:
        del saved["run"]
    folder = write(tmp_path / "run", saved)
    with pytest.raises(StateError, match=rf"run holds a run with other categories: .*{told}.*\. Name another --out\.$"):
        state.read(folder, state.facts(RECIPE, categories.parse(kinds), 1))


def test_other_colours_are_no_other_categories(tmp_path: Path) -> None:
    painted = categories.parse({**kind, "color": [1, 2, 3]} for kind in KINDS)
    assert state.read(write(tmp_path / "run", content()), state.facts(RECIPE, painted, 1))


@pytest.mark.parametrize(
    ("recipe", "processes", "told"),
    [
        (RECIPE, 2, "other processes: 1, not 2"),
        (replace(RECIPE, batch=3), 1, "other batch: 2, not 3"),
        (replace(RECIPE, optimizer="sgd"), 1, "other optimizer: adamw, not sgd"),
        (replace(RECIPE, average_decay=0.0), 1, "other averaged weights: True, not False"),
        (RECIPES["coco_r50"](), 1, "other configuration: camvid_demo, not coco_r50"),
    ],
)
def test_a_run_of_another_kind_is_refused(tmp_path: Path, recipe: Recipe, processes: int, told: str) -> None:
    folder = write(tmp_path / "run", content())
    with pytest.raises(StateError, match=rf"^\S+ holds a run with {told}\. Name another --out\.$"):
        state.read(folder, state.facts(recipe, LABELS, processes))


def test_a_state_of_the_first_versions_goes_on_where_it_fits(tmp_path: Path) -> None:
    saved = content()
    del saved["run"]
    folder = write(tmp_path / "run", saved)
    assert state.read(folder, state.facts(RECIPE, LABELS, 2))  # it does not say how many processes
    with pytest.raises(StateError, match="other optimizer: adamw, not sgd"):
        state.read(folder, state.facts(replace(RECIPE, optimizer="sgd"), LABELS, 1))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def text(path: Path, words: bytes = b"hello\n") -> None:
    path.write_bytes(words)


def weights_alone(path: Path) -> None:
    torch.save({"a": torch.ones(1)}, path)


def of_another_kind(path: Path, **parts: Any) -> None:
    torch.save({**content(), **parts}, path)


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def scripted(path: Path) -> None:
    from model import archive

    network = archive.script(torch.nn.Identity())
    with archive.quiet():
        torch.jit.save(network, str(path))


FAULTS: dict[str, Any] = {
    "empty": lambda path: cut(path, 0),
    "cut in its head": lambda path: cut(path, 10),
    "cut": lambda path: cut(path, path.stat().st_size // 2),
    "cut at its end": lambda path: cut(path, path.stat().st_size - 1),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": text,
    "pickle that runs code": lambda path: path.write_bytes(pickle.dumps(print)),
    "list": lambda path: torch.save([1, 2], path),
    "weights": weights_alone,
    "archive": scripted,
    "no steps": lambda path: of_another_kind(path, steps=None),
    "negative steps": lambda path: of_another_kind(path, steps=-1),
    "no time": lambda path: of_another_kind(path, seconds=float("nan")),
    "no optimizer": lambda path: of_another_kind(path, optimizer={}),
    "odd optimizer": lambda path: of_another_kind(path, optimizer={"param_groups": [1]}),
    "odd facts": lambda path: of_another_kind(path, run=[1]),
    "folder": folder_in_its_place,
    "link to nothing": link_to_nothing,
    "no checkpoint": lambda path: path.with_name("checkpoint.safetensors").unlink(),
    "cut checkpoint": lambda path: cut(path.with_name("checkpoint.safetensors"), 20),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_run_can_go_on_from_is_named_in_one_line(tmp_path: Path, fault: str) -> None:
    folder = write(tmp_path / "run", content())
    FAULTS[fault](folder / "state.pt")
    with pytest.raises(StateError, match=r"^\S+/run/state\.pt .*[nN]ame another --out") as error:
        state.read(folder, state.facts(RECIPE, LABELS, 1))
    assert "\n" not in str(error.value)


def test_a_state_of_other_weights_is_named_in_one_line(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    with pytest.raises(StateError, match=r"run/state\.pt does not fit the network: RuntimeError: .*--out\.$") as error:
        run.take(content())
    assert "\n" not in str(error.value)

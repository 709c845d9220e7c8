"""What files seem to be that do not hold the weights which are wanted."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoint import Checkpoint
from model.interface.categories import Category, Labels
from model.weight_files import faults, misfits, seem, seems
from tests.paths import DEMO, EXAMPLES

WEIGHTS = {"a.weight": torch.zeros(2)}
LABELS = Labels((Category(7, "road", False, (128, 64, 128)),))


def test_faults_are_counted_and_the_first_named() -> None:
    assert faults(missing=[], extra=[]) == ""
    assert faults(missing=["a"], extra=list("bcde"), misshapen=[]) == "1 missing: a; 4 extra: b, c, d, ..."


def test_misfits_are_by_name_and_shape() -> None:
    ours = {"a": torch.zeros(2), "b": torch.zeros(2, 3), "c": torch.zeros(1)}
    assert misfits(ours, ours) == ""
    theirs = {"b": torch.zeros(3, 2), "c": torch.zeros(1), "d": torch.zeros(1)}
    assert misfits(theirs, ours) == "1 missing: a; 1 extra: d; 1 misshapen: b (3, 2), expected (2, 3)"


def saved(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def cut(path: Path) -> None:
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-100])


def scripted(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("relu/code/__torch__.py", "")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b""), "It is empty."),
        (lambda path: path.write_bytes(b"\n<html>"), "It is a web page"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"), "It is a pointer of Git LFS"),
        (lambda path: path.write_bytes(DEMO.read_bytes()), "It is an archive of this project already"),
        (lambda path: path.write_bytes(next(EXAMPLES.glob("*.jpg")).read_bytes()), "It is no file of torch's"),
        (lambda path: path.write_bytes(b'{"a": 1}'), "It is no file of torch's"),
        (lambda path: path.mkdir(), "It cannot be read"),
        (cut, "It is cut short or damaged."),
        (scripted, "It is a network in TorchScript."),
        (lambda path: save_file(WEIGHTS, path), "It is a safetensors file with the names 'a.weight'."),
        (Checkpoint("camvid_demo", LABELS, WEIGHTS).save, "It is a checkpoint of this project already: export it"),
        (saved({"epoch": 3, "state_dict": WEIGHTS}), "Its weights are under 'state_dict': save them alone"),
        (saved({"network": WEIGHTS, "optimizer": {}, "steps": 3}), "It is the state of a training run"),
        (saved({"lr": 0.1, 7: None}), "It is a dictionary with 'lr', 7, not of tensors alone."),
        (saved({}), "It is a dictionary with nothing in it"),
        (saved([torch.zeros(1)]), "It holds a list and not a dictionary of tensors."),
        (saved(torch.nn.Linear(1, 1)), "It holds Python objects beside tensors"),
    ],
)  # fmt: skip
def test_a_file_is_told_in_a_sentence(tmp_path: Path, write: Callable[[Path], object], told: str) -> None:
    path = tmp_path / "file"
    write(path)
    said = seems(path)
    assert said.startswith(told)
    assert "\n" not in said
    assert len(said) < 250


def test_weights_of_other_networks_are_told() -> None:
    assert "`--backbone torchvision:FILE`" in str(
        seem({"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)})
    )
    assert seem({"backbone.stem.conv.weight": torch.zeros(1)}) == "It has the names of this project already."
    assert seem(WEIGHTS) is None

"""The state of a run, from which it goes on after a stop, and whether it fits the run that is asked for."""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, CheckpointError
from model.command import CommandError
from model.interface import outputs
from model.interface.categories import Labels
from model.interface.failures import one_line
from model.training.recipe import Recipe

STATE, CHECKPOINT = "state.pt", "checkpoint.safetensors"
State = dict[str, Any]
PARTS = {"network": dict, "average": dict, "optimizer": dict, "steps": int, "seconds": float}


class StateError(CommandError):
    """A run cannot go on from what its folder holds; the message names the state or says what differs."""


def facts(recipe: Recipe, labels: Labels, processes: int) -> State:
    """What must be the same for a run to go on, by name.

    The number of processes is among them: with the number of a step it decides the step's photos and learning rate.
    """
    return {
        "configuration": recipe.configuration,
        "categories": [[each.id, each.name, bool(each.isthing)] for each in labels],
        "processes": processes,
        "batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "averaged weights": recipe.average_decay > 0,
    }


def write(out: Path, state: State) -> None:
    """Write the state of a run; the file is replaced at once."""
    part = out / f"{STATE}.part"
    with part.open("wb") as file:
        torch.save(state, file)
    outputs.put(part, out / STATE)


def read(out: Path, wanted: State) -> State | None:
    """The state in the folder of a run, on the CPU; None where no run has left one.

    Args:
        out: the folder.
        wanted: the `facts` of the run that is to go on.

    Raises:
        StateError: it cannot be read, its checkpoint is not beside it, or it is of a run with other facts.
    """
    path = out / STATE
    if not os.path.lexists(path):
        return None
    state = _load(path)
    try:
        checkpoint = Checkpoint.load(out / CHECKPOINT)
    except CheckpointError as error:
        raise StateError(f"{path} lacks the checkpoint that belongs to it. {error} Or name another --out.") from error
    labels = [[each.id, each.name, bool(each.isthing)] for each in checkpoint.categories]
    kind = "adamw" if "betas" in state["optimizer"]["param_groups"][0] else "sgd"
    found: State = {"configuration": checkpoint.configuration, "categories": labels, "optimizer": kind}
    found |= state.get("run", {})  # the first versions did not write it
    for name, value in found.items():
        if name in wanted and value != wanted[name]:
            told = _other_class(value, wanted[name]) if name == "categories" else f"{value}, not {wanted[name]}"
            raise StateError(f"{out} holds a run with other {name}: {told}. Name another --out.")
    return state


def _load(path: Path) -> State:
    """The content of a state file.

    Raises:
        StateError: it is something else.
    """
    hint = "Name another --out, or delete it to begin anew."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has hints on files that are none of ours
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of any class on damaged files
        raise StateError(
            f"{path} cannot be read: it is cut, or no state of a run ({one_line(error):.120}). {hint}"
        ) from error
    if not isinstance(state, dict) or any(not isinstance(state.get(name), kind) for name, kind in PARTS.items()):
        raise StateError(f"{path} is not the state of a run. {hint}")
    groups = state["optimizer"].get("param_groups")
    counts = state["steps"] >= 0 and math.isfinite(state["seconds"]) and state["seconds"] >= 0
    listed = isinstance(groups, list) and groups and all(isinstance(group, dict) for group in groups)
    if not (counts and listed and isinstance(state.get("run", {}), dict)):
        raise StateError(f"{path} is not the state of a run. {hint}")
    return state


def _other_class(found: list[list[Any]], wanted: list[list[Any]]) -> str:
    """The first class in which two lists differ."""
    if len(found) != len(wanted):
        return f"{len(found)}, not {len(wanted)}"
    place = next(i for i, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other)
    (number, name, isthing), (its_id, its_name, its_isthing) = found[place], wanted[place]
    kinds = [" thing" if each else " stuff" for each in (isthing, its_isthing)]
    return f"class {place} is {name!r} (id {number},{kinds[0]}), not {its_name!r} (id {its_id},{kinds[1]})"

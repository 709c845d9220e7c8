"""What a file of weights that does not fit seems to be, in a sentence: people have several, with names alike."""

import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.interface.archive_file import METADATA

SHOWN = 3
"""Names of each kind of fault that a message lists."""


def faults(**names: Sequence[str]) -> str:
    """How many names have each fault, and the first of them: `2 missing: a, b; 130 extra: c, d, e, ...`."""
    parts = []
    for fault, found in names.items():
        listed = ", ".join(name if len(name) <= 120 else name[:120] + "..." for name in found[:SHOWN]) + (
            ", ..." if len(found) > SHOWN else ""
        )
        parts += [f"{len(found)} {fault}: {listed}"] if found else []
    return "; ".join(parts)


def misfits(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What does not match between weights and the tensors that are wanted, by `faults`; empty where all do."""
    return faults(
        missing=[name for name in wanted if name not in weights],
        extra=[name for name in weights if name not in wanted],
        misshapen=[
            f"{name} {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    )


def seems(path: Path) -> str:
    """What a file is that holds no plain dictionary of tensors: a sentence or two."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if not head:
            return "It is empty."
        if head.lstrip()[:1] == b"<":
            return "It is a web page, so its download has failed."
        if head.startswith(b"version https://git-lfs"):
            return "It is a pointer of Git LFS: fetch the file itself with `git lfs pull`."
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            if any(name.endswith(f"/extra/{METADATA}") for name in names):
                return "It is an archive of this project already, which the service reads."
            if any("/code/" in name for name in names):
                return "It is a network in TorchScript. Weights alone are expected."
        elif head.startswith(b"PK"):
            return "It is cut short or damaged. Fetch it again."
    except (OSError, zipfile.BadZipFile) as error:
        return f"It cannot be read ({error})."
    return _seems_safetensors(path) or _seems_pickle(path)


def _seems_safetensors(path: Path) -> str | None:
    try:
        with safe_open(path, "pt") as file:
            if "configuration" in (file.metadata() or {}):
                return "It is a checkpoint of this project already: export it with `python -m model.export`."
            return f"It is a safetensors file with the names {_first(list(file.keys()))}."
    except (SafetensorError, OSError):
        return None


def _seems_pickle(path: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of any class on what is no file of its own
        if "weights_only" in str(error).lower() and "GLOBAL" in str(error):
            return "It holds Python objects beside tensors, which are not loaded, as that can run code."
        return "It is no file of torch's, or is damaged."
    if not isinstance(loaded, dict):
        return f"It holds a {type(loaded).__name__} and not a dictionary of tensors."
    if loaded.keys() >= {"network", "optimizer", "steps"}:
        return "It is the state of a training run: its weights are in `checkpoint.safetensors` beside it."
    for name, inner in loaded.items():
        if isinstance(inner, dict) and any(isinstance(tensor, Tensor) for tensor in inner.values()):
            return f"Its weights are under {name!r}: save them alone, torch.save(torch.load(FILE)[{name!r}], NEW)."
    return f"It is a dictionary with {_first(list(loaded))}, not of tensors alone."


def seem(weights: Mapping[Any, Tensor]) -> str | None:
    """What weights are that are not of the network that is wanted; None where they tell nothing."""
    if {"conv1.weight", "layer1.0.conv1.weight"} <= weights.keys():
        return (
            "It holds a ResNet: begin a training with `--backbone torchvision:FILE`, or `--backbone caffe:FILE` for "
            "one that takes BGR."
        )
    if "backbone.stem.conv.weight" in weights:
        return "It has the names of this project already."
    return None


def _first(names: Collection[Any]) -> str:
    """The first names of some, for a message."""
    shown = ", ".join(f"{name!r:.40}" for name in list(names)[:SHOWN])
    return (shown + (", ..." if len(names) > SHOWN else "")) or "nothing in it"

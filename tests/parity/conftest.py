"""The parity arrays: read from UPSNET_SHARED (default: `shared` beside the checkout), skipped where absent."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.paths import SHARED

Arrays = dict[str, Tensor]


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "upsnet/parity").is_dir():
        pytest.skip(f"parity arrays: no {SHARED}/upsnet/parity; name the folder in UPSNET_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    return shared / "upsnet/parity"


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="session")
def ops(parity: Path) -> Arrays:
    return read_arrays(parity / "public_ops.npz")


@pytest.fixture(scope="session")
def seeded_weights(parity: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("seeded_weights", parity / "seeded_weights.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_weights(parity: Path, seeded_weights: ModuleType, fixture: dict[str, Any]) -> Arrays:
    """Seeded weights under the published key names, checked against the fixture's digest."""
    keys = json.loads((parity / f"keys_{fixture['config']}.json").read_text())
    blank = {key: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"])) for key, entry in keys.items()}
    weights: Arrays = seeded_weights.fill_state_dict(blank, fixture["seed"], fixture["gains"])
    assert seeded_weights.checksum(weights) == fixture["weights_sha256"]
    return weights


def assert_same_segments(ids: Tensor, classes: Tensor, unified: Tensor, stuff: int) -> None:
    """Our ids and the official (semantic, instance) pairs divide the photo alike."""
    kinds = torch.cat([torch.tensor([255]), classes])[ids.long()]
    assert torch.equal(kinds, unified[..., 0].long())
    instance = torch.where(kinds < stuff, 0, ids)
    pairs = torch.stack([kinds, instance, unified[..., 1].long()], dim=-1)[kinds != 255].unique(dim=0)
    assert len(pairs) == len(pairs[:, :2].unique(dim=0)) == len(pairs[:, [0, 2]].unique(dim=0)) == len(classes)

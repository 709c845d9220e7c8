"""A tiny network, as a checkpoint and as the archive exported from it."""

from pathlib import Path

import pytest
import torch

from model import export
from model.checkpoint import Checkpoint, build_network
from model.interface import categories
from model.kernels import choice
from model.training.initialise import initialise


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    labels = categories.load("camvid")
    network = build_network("camvid_demo", labels, short_side=64, long_side=96)
    initialise(network)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    scale = {"short_side": 64, "long_side": 96}
    Checkpoint("camvid_demo", labels, network.state_dict(), {"panoptic_score": 0.3}, scale).save(path)
    return path


@pytest.fixture(scope="session")
def tiny_archive(tiny_checkpoint: Path) -> Path:
    path = tiny_checkpoint.with_name("tiny.pt")
    export.main([str(tiny_checkpoint), "--out", str(path), "--stuff-area", "10", "--half"])
    return path


@pytest.fixture
def kernels_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process starts on a host with Triton: every kernel is in use."""
    monkeypatch.setattr(choice, "has_triton", lambda: True)
    monkeypatch.setattr(choice, "_replaced", {})
    monkeypatch.setattr(choice, "_switched_off", False)

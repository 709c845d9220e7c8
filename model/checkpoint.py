"""Checkpoints: weights as safetensors, and what is needed to build the network they fit."""

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model import archive, weight_files
from model.command import CommandError
from model.interface import categories, outputs
from model.interface.categories import Labels
from model.interface.channels import check_classes
from model.network.backbone import unfold_norms
from model.network.configurations import CONFIGURATIONS
from model.network.upsnet import UPSNet


class CheckpointError(CommandError):
    """A checkpoint cannot be used; the message says what was expected."""


@dataclass
class Checkpoint:
    """Weights and the network they belong to.

    Attributes:
        configuration: name of the network's builder.
        categories: the classes that it tells apart.
        weights: tensors by name.
        thresholds: score, panoptic_score and stuff_area, where they replace the builder's.
        test_scale: short_side and long_side, where they replace the builder's.
        dataset: what the weights were trained on.
        licence: the weights' licence.
        scores: measured scores by name.
    """

    configuration: str
    categories: Labels
    weights: dict[str, Tensor]
    thresholds: dict[str, float] = field(default_factory=dict)
    test_scale: dict[str, int] = field(default_factory=dict)
    dataset: str = "unknown"
    licence: str = "unknown"
    scores: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file in one step; a killed run leaves the old one or the new one."""
        fields = {
            "configuration": self.configuration,
            "categories": self.categories.to_json(),
            "thresholds": self.thresholds,
            "test_scale": self.test_scale,
            "dataset": self.dataset,
            "licence": self.licence,
            "scores": self.scores,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.weights.items()}
        save_file(weights, part, {name: json.dumps(value) for name, value in fields.items()})
        outputs.put(part, path)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a file that `save` wrote.

        Raises:
            CheckpointError: the file is missing, `save` did not write it, or no network tells its categories apart.
        """
        check_exists(path)
        fields: dict[str, Any] = {}
        try:
            with safe_open(path, "pt") as file:
                fields = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
            fields["categories"] = categories.parse(fields["categories"])
            loaded = cls(weights=weights, **fields)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            ours = "configuration" in fields
            reason = f": {str(error).splitlines()[0]}." if ours else f". {weight_files.seems(path)}"
            raise CheckpointError(f"{path} is not a checkpoint of this project{reason}") from error
        check_categories(loaded.categories, path)
        return loaded

    @classmethod
    def of_archive(cls, path: Path) -> "Checkpoint":
        """The checkpoint that an archive was exported from; a folded norm becomes an identity with a shift.

        Raises:
            archive.ArchiveError: there is no usable archive at the path.
            CheckpointError: the archive's configuration is unknown.
        """
        scripted, metadata = archive.load(path)
        network = build_network(metadata.configuration, metadata.categories)
        weights = unfold_norms(network, scripted.state_dict())  # TorchScript keeps constants beside them
        return cls(
            metadata.configuration,
            metadata.categories,
            {name: weights[name] for name in network.state_dict() if name in weights},
            metadata.thresholds,
            metadata.test_scale,
            metadata.dataset,
            metadata.licence,
            metadata.scores,
        )

    def build(self) -> UPSNet:
        """The network with these weights, thresholds and test scale, in eval mode.

        Raises:
            CheckpointError: the configuration is unknown or the weights do not fit it.
        """
        network = build_network(self.configuration, self.categories, **self.test_scale)
        set_thresholds(network, self.thresholds)
        faults = weight_files.misfits(self.weights, network.state_dict())
        if faults:
            raise CheckpointError(f"The weights do not fit {self.configuration}: {faults}.")
        network.load_state_dict(self.weights)
        return network


def check_exists(path: Path) -> None:
    """Refuse a path where there is no file.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. Name a checkpoint.")


def check_categories(labels: Labels, source: Path | str) -> None:
    """Refuse categories that no network tells apart; the message names their source.

    Raises:
        CheckpointError: they are of that kind.
    """
    try:
        check_classes(len(labels.stuff), len(labels.things))
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from error


def build_network(configuration: str, labels: Labels, **test_scale: int) -> UPSNet:
    """A new network of a configuration, for any categories and in eval mode; its weights are not set.

    Raises:
        CheckpointError: there is no such configuration, or no network tells these categories apart.
    """
    if configuration not in CONFIGURATIONS:
        raise CheckpointError(f"Configuration {configuration!r} is not one of {', '.join(CONFIGURATIONS)}.")
    check_categories(labels, configuration)
    stuff, things = len(labels.stuff), len(labels.things)
    return CONFIGURATIONS[configuration](stuff=stuff, things=things, **test_scale).eval()


def thresholds_of(network: UPSNet) -> dict[str, float]:
    """The thresholds that decide what becomes a segment, by name."""
    return {
        "score": network.candidates.score_threshold,
        "panoptic_score": network.candidates.panoptic_threshold,
        "stuff_area": network.segments.stuff_area_limit,
    }


def set_thresholds(network: UPSNet, thresholds: dict[str, float]) -> None:
    """Set the thresholds that are given; the others stay."""
    network.candidates.score_threshold = thresholds.get("score", network.candidates.score_threshold)
    network.candidates.panoptic_threshold = thresholds.get("panoptic_score", network.candidates.panoptic_threshold)
    network.segments.stuff_area_limit = int(thresholds.get("stuff_area", network.segments.stuff_area_limit))


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file by name, read without running the code that a pickle can hold.

    Raises:
        CheckpointError: the file is missing, or no plain dictionary of tensors: the message says what it seems to be.
    """
    check_exists(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says in two lines more that it guesses what the file is
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises errors of any class on damaged files
        loaded = None
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise CheckpointError(f"{path} is not a published checkpoint. {weight_files.seems(path)}")
    return loaded

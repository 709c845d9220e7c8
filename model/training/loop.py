"""The loop around the step: optimiser, schedule, averaged weights, checkpoints, resume."""

import copy
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from model.checkpoint import Checkpoint, thresholds_of
from model.network.deformable import DeformableConv
from model.network.upsnet import UPSNet
from model.training.dataset import PanopticDataset, Sample, class_weights
from model.training.recipe import Recipe
from model.training.step import TrainingStep


class NonFiniteLossError(Exception):
    """A loss is no longer a number; the message names the images and the losses."""


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights with decay; biases and norms without, at twice the rate for SGD; offset convolutions at theirs."""
    offsets = {id(p) for m in network.modules() if isinstance(m, DeformableConv) for p in m.offset.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.offset_rate if id(parameter) in offsets else 1.0
        decay = recipe.weight_decay
        if parameter.dim() == 1:
            rate, decay = rate * (2.0 if recipe.optimizer == "sgd" else 1.0), 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "rate": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


class CaffeSGD(torch.optim.Optimizer):
    """SGD whose momentum holds the learning rate, v = m v + lr g, and is rescaled when the rate steps (quirk Q26)."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.9) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "rate": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 -- the base's signature
        """Apply one update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                state["velocity"].mul_(group["momentum"]).add_(gradient, alpha=group["lr"])
                parameter.sub_(state["velocity"])

    def scale_velocity(self, factor: float) -> None:
        """Follow a step of the learning rate."""
        for state in self.state.values():
            state["velocity"].mul_(factor)


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """The rate of a step.

    Args:
        recipe: of the run.
        step: from 0.
        done: share of the run that is over, 0..1; the cosine follows it.
    """
    rate = recipe.learning_rate
    if step < recipe.warmup_steps:
        return rate * (0.1 + 0.9 * step / recipe.warmup_steps)
    if recipe.milestones:
        return rate * 0.1 ** sum(step >= milestone for milestone in recipe.milestones)
    return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Trainer:
    """One run in a folder.

    Args:
        checkpoint: what the run starts from; its `weights` may be empty.
        network: to train.
        dataset: of samples.
        recipe: of the run.
        out: folder of `checkpoint.safetensors` and `state.pt`; a run found there goes on.
        steps: optimiser steps, in place of the recipe's.
        minutes: wall-clock budget; the cosine then follows the clock, over all sessions of the run.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: UPSNet,
        dataset: PanopticDataset,
        recipe: Recipe,
        out: Path,
        steps: int | None = None,
        minutes: float | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.dataset = dataset
        self.recipe = recipe
        self.out = out
        self.steps = steps or recipe.steps
        self.minutes = minutes
        weights = class_weights(dataset.annotations, recipe.class_weight_power) if recipe.class_weight_power else None
        if recipe.freeze_stem:
            for part in (network.backbone.stem, network.backbone.c2):
                part.requires_grad_(False)
        self.step = TrainingStep(network, recipe, weights)
        self.average = copy.deepcopy(network) if recipe.average_decay else network
        groups = parameter_groups(network, recipe)
        self.optimizer: torch.optim.Optimizer = (
            CaffeSGD(groups, recipe.learning_rate)
            if recipe.optimizer == "sgd"
            else torch.optim.AdamW(groups, recipe.learning_rate)
        )
        self.done_steps = 0
        self.seconds = 0.0

    def resume(self) -> bool:
        """Take up the run in the folder, if there is one."""
        path = self.out / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=False)
        self.step.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done_steps, self.seconds = state["steps"], state["seconds"]
        random.setstate(state["random"][0])
        np.random.set_state(state["random"][1])
        torch.set_rng_state(state["random"][2])
        return True

    def save(self) -> None:
        """Write the checkpoint and the state beside it, each in one step."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint.weights = self.average.state_dict()
        self.checkpoint.thresholds = thresholds_of(self.step.network)
        self.checkpoint.save(self.out / "checkpoint.safetensors")
        part = self.out / "state.pt.part"
        torch.save(
            {
                "network": self.step.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "steps": self.done_steps,
                "seconds": self.seconds,
                "random": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
            },
            part,
        )
        part.replace(self.out / "state.pt")

    def share_done(self) -> float:
        """Share of the run that is over."""
        by_steps = self.done_steps / self.steps
        return max(by_steps, self.seconds / 60 / self.minutes) if self.minutes else by_steps

    def run(self, checkpoint_seconds: float) -> None:
        """Train to the end of the budget, writing checkpoints on the way.

        Raises:
            NonFiniteLossError: a loss is not a number; the last checkpoint stays.
        """
        last_save = last = time.monotonic()
        mean: dict[str, float] = {}
        bar = tqdm(total=self.steps, initial=self.done_steps, unit="step", mininterval=2, dynamic_ncols=True)
        batches = self.batches()
        while self.share_done() < 1:
            samples = next(batches)
            losses = self.update(samples)
            mean = {name: 0.98 * mean.get(name, value) + 0.02 * value for name, value in losses.items()}
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in mean.items()}, refresh=False)
            if now - last_save > checkpoint_seconds:
                self.save()
                last_save = now
        bar.close()
        self.save()

    def update(self, samples: list[Sample]) -> dict[str, float]:
        """One optimiser step; the losses by name."""
        rate = learning_rate(self.recipe, self.done_steps, self.share_done())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        if isinstance(self.optimizer, CaffeSGD) and self.done_steps in self.recipe.milestones:
            self.optimizer.scale_velocity(0.1)
        losses = self.step(samples)
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        if not math.isfinite(values["total"]):
            names = ", ".join(sample.name for sample in samples)
            raise NonFiniteLossError(f"Loss is not finite at step {self.done_steps} on {names}: {values}")
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        if self.recipe.optimizer == "adamw":
            nn.utils.clip_grad_norm_(self.step.network.parameters(), 5.0)
        self.optimizer.step()
        self.done_steps += 1
        self.update_average()
        return values

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the current ones, faster at the start."""
        if not self.recipe.average_decay:
            return
        decay = min(self.recipe.average_decay, (1 + self.done_steps) / (10 + self.done_steps))
        for mean, value in zip(self.average.parameters(), self.step.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def batches(self) -> Iterator[list[Sample]]:
        """Samples of each step: every photo once an epoch, in an order that the step number alone decides."""
        size = self.recipe.batch
        per_epoch = max(len(self.dataset) // size, 1)
        while True:
            epoch, position = divmod(self.done_steps, per_epoch)
            order = np.random.default_rng(epoch).permutation(len(self.dataset))
            self.dataset.epoch = epoch
            yield [self.dataset[int(i)] for i in order[position * size : (position + 1) * size]]

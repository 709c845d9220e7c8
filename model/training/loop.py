"""The loop around a training step: batches, averaged weights, checkpoints, and going on after a stop."""

import contextlib
import copy
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from model.checkpoint import Checkpoint, thresholds_of
from model.command import CommandError
from model.interface.failures import one_line
from model.network.upsnet import UPSNet
from model.read_ahead import read_ahead
from model.training import state
from model.training.dataset import PanopticDataset, Sample, class_weights
from model.training.history import History
from model.training.optimizer import make_optimizer, set_rate
from model.training.processes import Processes, agree
from model.training.recipe import Recipe
from model.training.state import State, StateError
from model.training.step import Losses, TrainingStep

SEED = 235
Validate = Callable[[UPSNet, History, int], None]


class NonFiniteLossError(CommandError):
    """A loss, an activation or a weight is not a finite number; the message names the photos and the losses."""


def share_done(recipe: Recipe, steps: int, seconds: float) -> float:
    """Share of a run that is over, 0..1, by its steps or by its minutes."""
    by_steps, minutes = steps / recipe.steps, recipe.minutes
    return max(by_steps, seconds / 60 / minutes) if minutes else by_steps


class Trainer:
    """One run in a folder.

    A step's number and the process's rank decide its photos and its random draws, so a resumed run takes the same steps
    as one that was never stopped.

    Args:
        checkpoint: describes the network; the run sets its weights and thresholds.
        network: the network to train, on its device.
        dataset: gives the samples.
        recipe: the numbers of the run.
        out: folder for `checkpoint.safetensors`, `state.pt` and the history.
        processes: this process and how many share the work.
        validate: called at each checkpoint with the averaged network, the history and the number of steps.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: UPSNet,
        dataset: PanopticDataset,
        recipe: Recipe,
        out: Path,
        processes: Processes,
        validate: Validate | None = None,
    ) -> None:
        self.checkpoint, self.network, self.dataset, self.recipe = checkpoint, network, dataset, recipe
        self.out, self.processes, self.validate = out, processes, validate
        weights = class_weights(dataset.annotations, recipe.class_weight_power) if recipe.class_weight_power else None
        if recipe.freeze_stem:
            for part in (network.backbone.stem, network.backbone.c2):
                part.requires_grad_(False)
        step = TrainingStep(network, recipe, weights).to(processes.device)
        self.step: nn.Module = nn.parallel.DistributedDataParallel(step) if processes.count > 1 else step
        self.average = copy.deepcopy(network) if recipe.average_decay else network
        self.optimizer = make_optimizer(network, recipe)
        self.done_steps = 0
        self.seconds = 0.0

    def take(self, found: State) -> None:
        """Go on from a state that `state.read` gave.

        Raises:
            StateError: it does not fit the network.
        """
        try:
            self.network.load_state_dict(found["network"])
            if self.average is not self.network:
                self.average.load_state_dict(found["average"])
            self.optimizer.load_state_dict(found["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            path = self.out / state.STATE
            raise StateError(f"{path} does not fit the network: {one_line(error):.200} Name another --out.") from error
        self.done_steps, self.seconds = found["steps"], found["seconds"]

    def save(self) -> None:
        """Write the checkpoint, then the state from which the run goes on; each file is replaced at once.

        Raises:
            NonFiniteLossError: a weight is not a finite number; the last checkpoint stays.
        """
        weights = self.average.state_dict()
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        broken += [name for name, value in self.network.named_parameters() if not value.isfinite().all()]
        if broken:
            raise NonFiniteLossError(
                f"Weights are not finite after {self.done_steps} steps: {broken[0]}. None are kept."
            )
        self.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint.weights = weights
        self.checkpoint.thresholds = thresholds_of(self.network)
        self.checkpoint.save(self.out / state.CHECKPOINT)
        content = {
            "network": self.network.state_dict(),
            "average": weights,
            "optimizer": self.optimizer.state_dict(),
            "steps": self.done_steps,
            "seconds": self.seconds,
            "run": state.facts(self.recipe, self.checkpoint.categories, self.processes.count),
        }
        state.write(self.out, content)

    def share_done(self) -> float:
        """Share of the run that is over, 0..1."""
        return share_done(self.recipe, self.done_steps, self.seconds)

    def run(self, checkpoint_seconds: float) -> None:
        """Train to the end, with checkpoints on the way.

        Args:
            checkpoint_seconds: time between two checkpoints.

        Raises:
            NonFiniteLossError: a loss, an activation or a weight is not a finite number; the last checkpoint stays.
        """
        history = History(self.out, self.done_steps) if self.processes.is_first else None
        images = self.recipe.batch * self.processes.count
        bar = tqdm(initial=self.done_steps * images, unit="image", mininterval=2, disable=history is None)
        steps = read_ahead(itertools.count(self.done_steps), self.samples_of, ahead=2, threads=1)
        with contextlib.closing(steps), bar, history or contextlib.nullcontext():
            last_save = last = time.monotonic()
            saved = -1  # steps of the last checkpoint
            mean: dict[str, float] = {}
            for _, samples in steps:
                if agree(self.share_done() >= 1, self.processes):
                    break
                losses = self.update(samples.result())
                now = time.monotonic()
                self.seconds, last = self.seconds + now - last, now
                if history is None:
                    continue
                history.add(self.done_steps - 1, losses)
                mean = {name: 0.98 * mean.get(name, value) + 0.02 * value for name, value in losses.items()}
                bar.set_postfix({name: f"{value:.3f}" for name, value in mean.items()}, refresh=False)
                bar.total = round(self.done_steps * images / self.share_done())  # moves where minutes end the run
                bar.update(images)
                if now - last_save > checkpoint_seconds:
                    self.save_and_score(history)
                    last_save, saved = time.monotonic(), self.done_steps
            if history and saved != self.done_steps:
                self.save_and_score(history)
        agree(True, self.processes)  # nobody leaves before that is done

    def save_and_score(self, history: History) -> None:
        """Write a checkpoint and score it."""
        history.flush()  # before the state that counts its lines
        self.save()
        if self.validate:
            self.validate(self.average, history, self.done_steps)
        history.flush()

    def update(self, samples: list[Sample]) -> dict[str, float]:
        """One optimiser step; the losses by name."""
        torch.manual_seed(SEED + self.done_steps * self.processes.count + self.processes.rank)
        set_rate(self.optimizer, self.recipe, self.done_steps, self.share_done())
        losses: Losses = self.step(samples)
        values = {name: loss.item() for name, loss in losses.items() if name != "total"}
        values["total"] = losses["total"].detach().item()
        if not math.isfinite(values["total"]):
            names = ", ".join(sample.name for sample in samples)
            what = "Loss" if not all(map(math.isfinite, list(values.values())[:-1])) else "An activation"
            raise NonFiniteLossError(f"{what} is not finite at step {self.done_steps} on {names}: {values}")
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        if self.recipe.optimizer == "adamw":
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.done_steps += 1
        self.update_average()
        return values

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the current ones, further in early steps."""
        if not self.recipe.average_decay:
            return
        decay = min(self.recipe.average_decay, (1 + self.done_steps) / (10 + self.done_steps))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def samples_of(self, step: int) -> list[Sample]:
        """This process's samples of a step. Each photo comes once an epoch, in the order of that epoch."""
        size = self.recipe.batch
        together = size * self.processes.count
        epoch, position = divmod(step, max(len(self.dataset) // together, 1))
        order = np.random.default_rng(epoch).permutation(len(self.dataset))
        start = position * together + self.processes.rank * size
        chosen = [order[i % len(order)] for i in range(start, start + size)]  # few photos fill a batch more than once
        return [self.dataset.sample(int(i), epoch).to(self.processes.device) for i in chosen]

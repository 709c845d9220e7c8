"""Optimiser and learning rate of a recipe."""

import math
from typing import Any

import torch
from torch import nn

from model.network.deformable import DeformableConv
from model.training.recipe import Recipe


class CaffeSGD(torch.optim.Optimizer):
    """SGD with the learning rate inside its momentum, v = m v + lr g, rescaled when the rate falls (quirk Q26)."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.9) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "rate": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 -- the base's signature
        """Update the weights from their gradients."""
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
        """Rescale the momentum as the learning rate was."""
        for state in self.state.values():
            state["velocity"].mul_(factor)


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups of one rate and decay: biases and norms have no decay, and twice the rate with SGD."""
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


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser for all parameters that are trained."""
    groups = parameter_groups(network, recipe)
    if recipe.optimizer == "sgd":
        return CaffeSGD(groups, recipe.learning_rate)
    return torch.optim.AdamW(groups, recipe.learning_rate)


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """The rate of a step.

    Args:
        recipe: the numbers of the run.
        step: number of the step, from 0.
        done: share of the run that is over, 0..1; a cosine follows it.
    """
    rate = recipe.learning_rate
    if step < recipe.warmup_steps:
        return rate * (0.1 + 0.9 * step / recipe.warmup_steps)
    if recipe.milestones:
        return rate * 0.1 ** sum(step >= milestone for milestone in recipe.milestones)
    return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, done: float) -> float:
    """Set the rate of a step in the optimiser, and return it."""
    rate = learning_rate(recipe, step, done)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
    if isinstance(optimizer, CaffeSGD) and step in recipe.milestones:
        optimizer.scale_velocity(0.1)
    return rate

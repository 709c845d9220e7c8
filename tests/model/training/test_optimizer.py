"""Updates, groups of weights and learning rates, by hand."""

import pytest
import torch
from torch import nn

from model.network.deformable import DeformableConv
from model.training.optimizer import CaffeSGD, learning_rate, make_optimizer, parameter_groups, set_rate
from model.training.recipe import RECIPES, Recipe


def test_caffe_momentum_holds_the_rate() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = CaffeSGD([{"params": [weight], "weight_decay": 0.1}], lr=0.5)
    weight.grad = torch.tensor([1.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(weight.data, torch.tensor([1 - 0.5 * 1.1, 2 - 0.5 * 0.2]))
    optimizer.scale_velocity(0.0)
    optimizer.param_groups[0]["lr"] = 0.0
    before = weight.data.clone()
    optimizer.step()
    assert torch.equal(weight.data, before)


def test_the_published_rate_rises_then_falls_to_a_tenth_at_each_milestone() -> None:
    published = RECIPES["coco_r50"]()
    assert learning_rate(published, 0, 0) == pytest.approx(0.002)
    assert learning_rate(published, 1500, 0) == pytest.approx(0.02)
    assert learning_rate(published, 60_000, 0.6) == pytest.approx(0.002)
    assert learning_rate(published, 80_000, 0.9) == pytest.approx(0.0002)


def test_the_demos_rate_follows_a_cosine_over_the_run() -> None:
    demo = RECIPES["camvid_demo"]()
    assert learning_rate(demo, 3000, 0.5) == pytest.approx(demo.learning_rate / 2)
    assert learning_rate(demo, 3000, 1.0) == pytest.approx(0, abs=1e-12)


def test_biases_have_no_decay_and_twice_the_rate_and_offsets_a_rate_of_their_own() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), DeformableConv(2, 2, bias=True))
    network[0].weight.requires_grad_(False)
    recipe = Recipe("coco_r50", 10, weight_decay=0.5, offset_rate=0.25)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, recipe)
    assert {(g["rate"], g["weight_decay"]): [names[id(p)] for p in g["params"]] for g in groups} == {
        (2.0, 0.0): ["0.bias", "1.bias"],
        (1.0, 0.5): ["1.weight"],
        (0.25, 0.5): ["1.offset.weight"],
        (0.5, 0.0): ["1.offset.bias"],
    }


def test_a_milestone_lowers_the_rate_and_the_momentum() -> None:
    weight = nn.Linear(1, 1, bias=False)
    recipe = Recipe("coco_r50", 10, learning_rate=1.0, warmup_steps=0, milestones=(5,), weight_decay=0.0)
    optimizer = make_optimizer(weight, recipe)
    weight.weight.grad = torch.tensor([[3.0]])
    set_rate(optimizer, recipe, 4, 0.4)
    optimizer.step()
    assert optimizer.state[weight.weight]["velocity"].item() == 3
    assert set_rate(optimizer, recipe, 5, 0.5) == pytest.approx(0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert optimizer.state[weight.weight]["velocity"].item() == pytest.approx(0.3)

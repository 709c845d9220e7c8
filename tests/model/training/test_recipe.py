"""The numbers of the named runs."""

import pytest

from model.network.configurations import CONFIGURATIONS
from model.training.recipe import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_the_network_of_its_name(name: str) -> None:
    assert RECIPES[name]().configuration == name
    assert name in CONFIGURATIONS


def test_rate_and_steps_scale_with_the_number_of_processes_as_published() -> None:
    four = RECIPES["coco_r50"]().for_processes(4)
    assert (four.learning_rate, four.steps, four.milestones) == (0.005, 360_000, (240_000, 320_000))
    assert four.for_processes(16) == RECIPES["coco_r50"]()

"""One step on a tiny street: its losses, and the regions that they are computed on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.training.step import TrainingStep, box_overlap_share, smooth_l1
from tests.model.training.street import RECIPE, trainer

NAMES = ("rpn_class", "rpn_box", "class", "box", "mask", "semantic", "roi_semantic", "panoptic")


def test_smooth_l1_is_quadratic_near_zero() -> None:
    found = smooth_l1(torch.tensor([0.05, -1.0]), 3)
    assert found.item() == pytest.approx(0.5 * 0.05**2 * 9 + 1 - 0.5 / 9)


def test_a_share_is_of_the_box_itself_and_the_largest_counts() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]])
    others = torch.tensor([[0.0, 0, 4, 9], [5, 0, 99, 0]])
    assert box_overlap_share(boxes, others).tolist() == [0.5, 0.0]


def test_losses_are_weighted_and_summed(tmp_path: Path) -> None:
    recipe = replace(RECIPE, roi_semantic=True, bfloat16=False)
    run = trainer(tmp_path / "street", tmp_path / "run", recipe)
    samples = [run.dataset.sample(index, 0) for index in (0, 1)]
    losses = []
    for weights in ({}, {"mask": 3.0}):
        torch.manual_seed(0)
        step = TrainingStep(run.network, replace(recipe, loss_weights=weights))
        losses.append({name: loss.item() for name, loss in step(samples).items()})
    once, thrice = losses
    assert set(once) == {*NAMES, "total"}
    assert thrice["mask"] == pytest.approx(3 * once["mask"])
    assert thrice["total"] == pytest.approx(once["total"] + 2 * once["mask"])


def test_a_photo_without_objects_has_losses_too(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run", replace(RECIPE, roi_semantic=True))
    sample = run.dataset.sample(0, 0)
    parts = ("boxes", "classes", "masks", "crowd_boxes", "crowd_classes")
    nothing = {name: getattr(sample, name)[:0] for name in parts}
    losses = run.step([sample._replace(**nothing)])
    assert losses["mask"] == losses["box"] == losses["roi_semantic"] == 0
    assert losses["class"] > 0
    losses["total"].backward()


def test_seven_of_ten_objects_get_a_channel(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    step, sample = TrainingStep(run.network, RECIPE), run.dataset.sample(0, 0)
    for count, kept in ((10, 7), (1, 1), (0, 0)):
        chosen = step.draw_objects(sample._replace(boxes=torch.zeros(count, 4))).tolist()
        assert len(set(chosen)) == len(chosen) == kept

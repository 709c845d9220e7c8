"""One step on a tiny street: its losses, and the regions that they are computed on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.training import targets
from model.training.dataset import PanopticDataset, Sample
from model.training.loop import Trainer
from model.training.step import TrainingStep, smooth_l1
from tests.model.training.street import RECIPE, trainer

NAMES = ("rpn_class", "rpn_box", "class", "box", "mask", "semantic", "roi_semantic", "panoptic")


def street_sample(run: Trainer) -> Sample:
    """The first photo whole, as it is."""
    dataset = PanopticDataset(
        run.dataset.annotations, replace(RECIPE, crop=None, short_sides=(64,)), run.dataset.transform
    )
    return next(sample for epoch in range(9) if (sample := dataset.sample(0, epoch)).boxes[0, 0] == 8)


def test_smooth_l1_is_quadratic_near_zero() -> None:
    found = smooth_l1(torch.tensor([0.05, -1.0]), 3)
    assert found.item() == pytest.approx(0.5 * 0.05**2 * 9 + 1 - 0.5 / 9)


@pytest.mark.parametrize("published", [False, True])
def test_pixels_of_crowds_take_proposals_away_and_no_object(tmp_path: Path, published: bool) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    step, sample = TrainingStep(run.network, replace(RECIPE, rois=400, crowd_proposals=published)), street_sample(run)
    crowds = torch.zeros_like(sample.crowds)
    crowds[16:40, 0:56] = True  # the first object lies in them, with the box of a crowd around all
    sample = sample._replace(crowds=crowds, crowd_boxes=torch.tensor([[0.0, 0, 95, 63]]))
    with torch.no_grad():
        pyramid = run.network.pyramid(run.network.backbone(sample.pixels[None]))
        (found,) = step.sample_regions(run.network.rpn.head(pyramid), pyramid, [sample])
    inside = targets.covered_share(found.boxes, crowds) >= 0.5
    objects = (found.boxes[:, None] == sample.boxes).all(2)
    assert objects.any(0).all()
    assert (found.labels[objects.any(1)] == 1).all()
    assert bool(inside[~objects.any(1)].any()) == published
    assert len(found.boxes) > 10, "the box of a crowd takes nothing away"


def test_a_photo_covered_by_crowds_has_no_regions_and_finite_losses(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    sample = street_sample(run)
    nothing = {name: getattr(sample, name)[:0] for name in ("boxes", "classes", "masks")}
    losses = run.step([sample._replace(crowds=torch.ones_like(sample.crowds), **nothing)])
    assert losses["class"] == losses["box"] == losses["mask"] == 0
    losses["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in run.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("weights", [None, torch.arange(1.0, 12)])
def test_a_batch_without_a_labelled_pixel_has_no_loss_of_pixels(tmp_path: Path, weights: torch.Tensor | None) -> None:
    recipe = replace(RECIPE, roi_semantic=True)
    run = trainer(tmp_path / "street", tmp_path / "run", recipe)
    step = TrainingStep(run.network, recipe, weights)
    sample = street_sample(run)
    void = sample._replace(semantic=torch.full_like(sample.semantic, 255), masks=torch.zeros_like(sample.masks))
    losses = step([void, void])
    assert losses["semantic"] == losses["roi_semantic"] == losses["panoptic"] == 0
    losses["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in run.network.parameters() if p.grad is not None)
    assert step([void, sample])["semantic"].item() == pytest.approx(step([sample])["semantic"].item(), rel=1e-3)


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


def test_every_loss_is_there_in_bfloat16_too(tmp_path: Path) -> None:
    found = []
    for low in (False, True):
        run = trainer(tmp_path / "street", tmp_path / "run", replace(RECIPE, roi_semantic=True, bfloat16=low))
        torch.manual_seed(0)
        found.append({name: loss.item() for name, loss in run.step([run.dataset.sample(0, 0)]).items()})
    assert found[1] == pytest.approx(found[0], rel=0.1, abs=0.05)


def test_seven_of_ten_objects_get_a_channel(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    step, sample = TrainingStep(run.network, RECIPE), run.dataset.sample(0, 0)
    for count, kept in ((10, 7), (1, 1), (0, 0)):
        chosen = step.draw_objects(sample._replace(boxes=torch.zeros(count, 4))).tolist()
        assert len(set(chosen)) == len(chosen) == kept

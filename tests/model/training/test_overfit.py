"""Overfit proof: the whole training and inference path learns eight photos by heart (TARGETS F7)."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, build_network
from model.datasets.load import load_annotations
from model.evaluate.__main__ import table
from model.evaluate.scores import evaluate
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise
from model.training.loop import SEED, Trainer
from model.training.processes import join
from model.training.recipe import RECIPES
from model.training.validation import EagerAnalyzer
from tests.paths import SHARED

COCO128 = SHARED / "data/coco128"
# The first eight whose every segment has 400 pixels or more at the network's scale, crowds apart.
PHOTOS = {9, 25, 30, 34, 36, 42, 64, 72}


@pytest.mark.slow
@pytest.mark.skipif(not COCO128.is_dir(), reason="no coco128: name its folder in UPSNET_SHARED")
def test_eight_photos_of_133_classes_are_learned_by_heart(tmp_path: Path) -> None:
    masks = COCO128 / "panoptic_train"
    annotations = load_annotations(COCO128 / "panoptic_train.json", COCO128 / "train", masks).select(PHOTOS)
    recipe = replace(
        RECIPES["camvid_demo"](),
        steps=int(os.environ.get("UPSNET_OVERFIT_STEPS", "1300")),
        batch=1,
        crop=None,
        short_sides=(240,),
        long_side=427,
        average_decay=0.99,
    )
    torch.manual_seed(SEED)
    network = build_network("camvid_demo", annotations.categories, short_side=240, long_side=427)
    initialise(network)
    processes = join("auto")
    dataset = PanopticDataset(annotations, recipe, network.transform)
    checkpoint = Checkpoint("camvid_demo", annotations.categories, {})
    run = Trainer(checkpoint, network.to(processes.device), dataset, recipe, tmp_path, processes)
    run.run(1e9)
    result = evaluate(EagerAnalyzer(run.average, annotations.categories), annotations, progress=False).result()
    print(f"\n{recipe.steps} steps, {run.seconds / 60:.1f} minutes\n{table(result)}")
    assert len(annotations.categories) == 133
    assert result["images"] == 8
    assert result["all"]["pq"] >= 80

"""How fast a network is trained, on made-up streets."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from model.benchmark.random_weights import settle
from model.checkpoint import Checkpoint, build_network
from model.datasets.load import load_annotations
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise
from model.training.loop import Trainer
from model.training.processes import Processes
from model.training.recipe import RECIPES, Recipe
from tests.gpu.measure import Bench
from tests.gpu.rows import Row
from tests.model.training import street


def trainer(bench: Bench, recipe: Recipe, folder: Path, size: tuple[int, int]) -> Trainer:
    """A run that has not begun, on new photos."""
    street.write_street(folder, 4, *size)
    annotations = load_annotations(folder / "street.json", folder / "photos", folder / "masks")
    torch.manual_seed(0)
    network = build_network(recipe.configuration, annotations.categories)
    initialise(network)
    settle(network)  # else the first loss of a deep network is not finite
    dataset = PanopticDataset(
        annotations, recipe, build_network(recipe.configuration, annotations.categories).transform
    )
    checkpoint = Checkpoint(recipe.configuration, annotations.categories, {})
    alone = Processes(0, 1, torch.device(bench.device))
    return Trainer(checkpoint, network.to(bench.device), dataset, recipe, folder, alone)


def steps(bench: Bench, name: str, recipe: Recipe, size: tuple[int, int]) -> Iterator[Row]:
    """Images a second of training steps on samples that are ready, memory, and the time to make a sample."""
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(bench, recipe, Path(folder), size)
        start = time.perf_counter()
        batches = [run.samples_of(step) for step in range(1 if bench.dry else 4)]
        made = (time.perf_counter() - start) / len(batches) / recipe.batch
        turns = iter(range(10**9))
        peak = bench.peak(lambda: run.update(batches[0]))
        taken = bench.wall(lambda: run.update(batches[next(turns) % len(batches)]), 12)
        height, width = size
        note = f"batches of {recipe.batch}, {height} x {width}, {1e3 * taken:.1f} ms a step"
        yield Row(f"training {name}", recipe.batch / taken, "images/s", note)
        yield Row(f"training {name}, memory of a step", peak / 1e6, "MB")
        yield Row(f"training {name}, a sample made by one thread", 1e3 * made, "ms")


def published(bench: Bench) -> Iterator[Row]:
    """UPSNet-50 as published, and with dense convolutions in bfloat16."""
    if bench.dry:
        return
    recipe = RECIPES["coco_r50"]().for_processes(1)
    yield from steps(bench, "coco_r50", recipe, bench.size)
    yield from steps(bench, "coco_r50 in bfloat16", replace(recipe, bfloat16=True), bench.size)


def demo(bench: Bench) -> Iterator[Row]:
    """The demo's recipe."""
    recipe = street.RECIPE if bench.dry else RECIPES["camvid_demo"]()
    yield from steps(bench, "camvid_demo", recipe, (64, 96) if bench.dry else (360, 480))


PARTS = (published, demo)

"""Whole runs on a tiny street: they learn, and every photo has its turn."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint, build_network
from model.datasets.load import load_annotations
from model.evaluate.__main__ import table
from model.evaluate.scores import evaluate
from model.training import state
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise
from model.training.loop import SEED, NonFiniteLossError, Trainer
from model.training.processes import Processes, join
from model.training.recipe import RECIPES
from model.training.validation import EagerAnalyzer
from tests.model.training.street import RECIPE, trainer
from tests.paths import SHARED


def test_losses_fall_and_the_checkpoint_builds(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    run.run(1e9)
    lines = [json.loads(line) for line in (tmp_path / "run/losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert lines[-1]["total"] < lines[0]["total"]
    network = Checkpoint.load(tmp_path / "run/checkpoint.safetensors").build()
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_photo(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    with torch.no_grad():
        run.network.semantic_head.logits.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"step 0 on \S+/street/\S*\d\.png, \S+\d\.png"):
        run.run(1e9)


def test_weights_that_are_not_finite_do_not_replace_the_last_checkpoint(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    run.save()
    before = [path.read_bytes() for path in sorted((tmp_path / "run").iterdir())]
    with torch.no_grad():
        run.network.box_head.deltas.bias[0] = float("nan")  # of the background, which no loss sees
    with pytest.raises(NonFiniteLossError, match=r"Weights are not finite after 0 steps: box_head\.deltas\.bias"):
        run.save()
    assert [path.read_bytes() for path in sorted((tmp_path / "run").iterdir())] == before


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize(
    ("part", "value"),
    [
        *itertools.product(
            ["backbone.stem.conv.weight", "pyramid.output3.0.weight", "rpn.deltas.bias", "rpn.logits.bias"],
            [float("nan"), float("inf"), -float("inf")],
        ),
        ("backbone.stem.conv.weight", 3e38),  # finite, but what follows from it is not
        ("pyramid.output3.0.weight", 3e38),
    ],
)
def test_what_is_not_finite_is_reported_whatever_the_losses_see(
    tmp_path: Path, part: str, value: float, objects: bool
) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run", replace(RECIPE, bfloat16=False, roi_semantic=True))
    with torch.no_grad():
        run.network.get_parameter(part).view(-1)[0] = value
    sample = run.dataset.sample(0, 0)
    nothing = sample._replace(**{name: getattr(sample, name)[:0] for name in ("boxes", "classes", "masks")})
    with pytest.raises(
        NonFiniteLossError, match=r"not finite at step 0 on \S+/0\.png: \{'rpn_class': .*'total': (nan|inf)"
    ):
        run.update([sample if objects else nothing])


def test_losses_are_on_disk_before_the_state_that_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run", replace(RECIPE, steps=2))
    lines = []
    written = state.write

    def watch(out: Path, content: state.State) -> None:
        lines.append((content["steps"], len((out / "losses.jsonl").read_text().splitlines())))
        written(out, content)

    monkeypatch.setattr(state, "write", watch)
    run.run(0)
    assert lines == [(1, 1), (2, 2)]


def test_a_run_is_over_by_its_steps_or_by_its_minutes(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run", replace(RECIPE, steps=8, minutes=2.0))
    run.done_steps, run.seconds = 2, 30.0
    assert run.share_done() == 0.25  # by either
    run.seconds = 90.0
    assert run.share_done() == 0.75


def test_every_photo_has_its_turn_once_an_epoch_over_all_processes() -> None:
    class Photos:
        def __len__(self) -> int:
            return 8

        def sample(self, index: int, epoch: int) -> Any:
            return SimpleNamespace(to=lambda _: (index, epoch))

    def turns(rank: int, step: int) -> Any:
        processes = Processes(rank, 2, torch.device("cpu"))
        run = SimpleNamespace(recipe=RECIPE, processes=processes, dataset=Photos())
        return Trainer.samples_of(run, step)  # type: ignore[arg-type]

    order = [turn for step in range(4) for rank in (0, 1) for turn in turns(rank, step)]
    first, second = order[:8], order[8:]  # two steps of two processes with two photos each
    assert sorted(first) == [(index, 0) for index in range(8)]
    assert sorted(second) == [(index, 1) for index in range(8)]
    assert [index for index, _ in first] != [index for index, _ in second]


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

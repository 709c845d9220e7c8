"""`python -m model.training`: train a network on a COCO-panoptic folder.

    python -m model.training --config camvid_demo --annotations panoptic_train.json --images train \
        --masks panoptic_train --out runs/demo

A run that was stopped goes on where it was.
"""

import argparse
from pathlib import Path

import torch

from model.checkpoint import Checkpoint, build_network
from model.command import CommandError, run
from model.panoptic_folder import load_annotations, read_id_list
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise
from model.training.loop import NonFiniteLossError, Trainer
from model.training.recipe import RECIPES


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = argparse.ArgumentParser(prog="python -m model.training", description=__doc__.split("\n")[0])
    result.epilog = (
        "Example: python -m model.training --config camvid_demo --annotations panoptic_train.json "
        "--images train --masks panoptic_train --out runs/demo"
    )
    result.add_argument("--config", required=True, choices=RECIPES, help="recipe")
    result.add_argument("--annotations", required=True, type=Path, help="COCO-panoptic JSON")
    result.add_argument("--images", required=True, type=Path, help="folder of photos")
    result.add_argument("--masks", required=True, type=Path, help="folder of id PNGs")
    result.add_argument("--ids", help="FILE:KEY, a JSON whose KEY lists the image ids to train on (default: all)")
    result.add_argument("--out", required=True, type=Path, help="folder of the run")
    result.add_argument("--init-from", type=Path, help="checkpoint whose weights start the run")
    result.add_argument("--checkpoint-seconds", type=float, default=300, help="time between checkpoints (default 300)")
    result.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    result.add_argument("--minutes", type=float, help="wall-clock budget; the learning rate then ends with it")
    result.add_argument("--licence", default="unknown", help="of the weights, kept in every checkpoint")
    return result


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    annotations = load_annotations(args.annotations, args.images, args.masks)
    if args.ids:
        annotations = annotations.select(read_id_list(args.ids))
    if not annotations.images:
        raise CommandError(f"{args.annotations} has no images to train on.")
    recipe = RECIPES[args.config]()
    torch.manual_seed(235)
    network = build_network(recipe.configuration, annotations.categories)
    initialise(network)
    if args.init_from:
        network.load_state_dict(Checkpoint.load(args.init_from).weights)
    dataset = PanopticDataset(annotations, recipe, network.transform)
    checkpoint = Checkpoint(
        recipe.configuration, annotations.categories, {}, dataset=args.annotations.stem, licence=args.licence
    )
    trainer = Trainer(checkpoint, network, dataset, recipe, args.out, args.steps, args.minutes)
    if trainer.resume():
        print(f"resuming {args.out} at step {trainer.done_steps}")  # noqa: T201
    try:
        trainer.run(args.checkpoint_seconds)
    except NonFiniteLossError as error:
        raise CommandError(str(error)) from error
    print(f"{args.out}/checkpoint.safetensors: {trainer.done_steps} steps, {trainer.seconds / 60:.1f} minutes")  # noqa: T201


if __name__ == "__main__":
    run(main)

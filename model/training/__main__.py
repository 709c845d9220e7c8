"""`python -m model.training`: train a network on annotated photos.

    uv run python -m model.training --config camvid_demo --annotations train.json --images photos --masks masks --out a

A run that was stopped goes on where it was. `torchrun --nproc-per-node N -m model.training ...` trains on N GPUs.
"""

import argparse
import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from model.begin import begin

if __name__ == "__main__":
    begin()

import torch

from model.checkpoint import Checkpoint, build_network, check_categories
from model.command import CommandError, check_output_folder, need, new_parser, number, path_name, positive, run
from model.datasets.load import add_annotations, load_annotations
from model.datasets.records import Annotations, ImageId, ImageRecord
from model.interface.categories import Labels
from model.network.backbone import FrozenNorm
from model.network.upsnet import UPSNet
from model.training import state
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise, load_backbone, load_network
from model.training.loop import SEED, Trainer, share_done
from model.training.outlines import Outline, load_outlines
from model.training.processes import Processes, joined
from model.training.recipe import RECIPES
from model.training.validation import Validation


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = new_parser(__doc__)
    result.add_argument("--config", required=True, choices=RECIPES, help="recipe: every number of the run")
    add_annotations(result)
    result.add_argument("--instances", type=path_name, help="COCO instances JSON to take boxes and polygons from")
    result.add_argument("--out", required=True, type=path_name, help="folder of the run")
    result.add_argument("--init-from", type=path_name, help="checkpoint or archive to start from")
    result.add_argument("--backbone", help="KIND:FILE, ImageNet weights; KIND: caffe (as published) or torchvision")
    result.add_argument("--val-annotations", type=path_name, help="annotations to score on at each checkpoint")
    result.add_argument("--val-images", type=path_name, help="folder of the validation photos (default: --images)")
    result.add_argument("--val-masks", type=path_name, help="their PNGs (default: --masks)")
    result.add_argument("--val-ids", help="FILE:KEY, a JSON whose KEY lists the ids to validate on")
    result.add_argument(
        "--checkpoint-seconds", type=number, default=300, help="time between checkpoints (default: 300)"
    )
    result.add_argument("--steps", type=positive, help="optimiser steps (default: the recipe's)")
    result.add_argument("--minutes", type=duration, help="end the run after so many minutes of training in all")
    result.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="cpu, cuda, or auto for CUDA where there is a GPU (default)",
    )
    result.add_argument(
        "--bfloat16", action="store_true", help="dense convolutions in bfloat16 (always in camvid_demo)"
    )
    result.add_argument("--licence", default="unknown", help="licence of the weights, kept in every checkpoint")
    return result


def read_validation(args: argparse.Namespace, labels: Labels) -> Validation | None:
    """The scorer of each checkpoint, under the labels that are trained; None where no photos are named for it."""
    if args.val_annotations is None:
        return None
    photos, masks = args.val_images or args.images, args.val_masks or args.masks
    return Validation(load_annotations(args.val_annotations, photos, masks, args.val_ids).relabel(labels))


def duration(text: str) -> float:
    """A number above 0, for an argument's `type`."""
    value = number(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def check_options(args: argparse.Namespace) -> None:
    """Refuse what no run can do, before anything is read.

    Raises:
        CommandError: the folder of the run cannot be written to, options do not go together, or a package is missing.
    """
    check_output_folder(args.out)
    if args.val_annotations is None:
        for name in ("val_images", "val_masks", "val_ids"):
            if getattr(args, name) is not None:
                raise CommandError(f"--{name.replace('_', '-')} needs --val-annotations: nothing is scored without.")
    if args.instances and RECIPES[args.config]().crop:
        raise CommandError(f"--instances is for recipes that train on whole photos; {args.config} cuts crops.")
    if args.instances:
        need("pycocotools")  # draws the outlines


def prepare(network: UPSNet, args: argparse.Namespace, labels: Labels) -> str:
    """Set the weights that a run starts from; what is to be said of them in one line, or nothing."""
    initialise(network)
    if args.backbone:
        kind, _, file = args.backbone.partition(":")
        if kind not in ("caffe", "torchvision") or not file:
            raise CommandError(f"--backbone {args.backbone}: expected caffe:FILE or torchvision:FILE.")
        load_backbone(network, Path(file), kind)
    if args.init_from:
        return load_network(network, args.init_from, labels)
    if not args.backbone and any(isinstance(module, FrozenNorm) for module in network.modules()):
        return (
            f"warning: {args.config} starts from nothing, and its norms do not learn: its losses begin at tens of "
            "thousands. Name --backbone or --init-from."
        )
    return ""


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    check_options(args)
    annotations = load_annotations(args.annotations, args.images, args.masks, args.ids)
    check_categories(annotations.categories, args.annotations)  # before hours of reading
    outlines = load_outlines(args.instances, annotations) if args.instances else None
    annotations = with_objects(annotations, outlines)
    with joined(args.device) as processes:
        train(args, annotations, outlines, processes)


def train(
    args: argparse.Namespace,
    annotations: Annotations,
    outlines: dict[ImageId, list[Outline]] | None,
    processes: Processes,
) -> None:
    """Start the run, or go on with the one in its folder."""
    recipe = RECIPES[args.config]().for_processes(processes.count)
    recipe = replace(
        recipe, steps=args.steps or recipe.steps, minutes=args.minutes, bfloat16=recipe.bfloat16 or args.bfloat16
    )
    labels = annotations.categories
    found = state.read(args.out, state.facts(recipe, labels, processes.count))
    if found and share_done(recipe, found["steps"], found["seconds"]) >= 1:
        say(
            processes,
            f"{args.out} has {length(found['steps'], found['seconds'])} already: nothing was done. Ask for more.",
        )
        return
    validation = read_validation(args, labels)
    torch.manual_seed(SEED)
    network = build_network(recipe.configuration, labels)
    if not found:
        say(processes, prepare(network, args, labels), sys.stderr)
    dataset = PanopticDataset(annotations, recipe, copy.deepcopy(network.transform), outlines)
    checkpoint = Checkpoint(recipe.configuration, labels, {}, dataset=args.annotations.stem, licence=args.licence)
    network = network.to(processes.device)
    trainer = Trainer(checkpoint, network, dataset, recipe, args.out, processes, validation)
    if found:
        trainer.take(found)
        found.clear()  # its memory
        say(processes, f"resuming {args.out} at step {trainer.done_steps}")
    trainer.run(args.checkpoint_seconds)
    say(processes, f"{args.out}/checkpoint.safetensors: {length(trainer.done_steps, trainer.seconds)}")


def length(steps: int, seconds: float) -> str:
    """How long a run was, for people."""
    return f"{steps} steps, {seconds / 60:.1f} minutes"


def say(processes: Processes, line: str, stream: TextIO | None = None) -> None:
    """Print a line, once for all processes; nothing if it is empty."""
    if line and processes.is_first:
        print(line, file=stream)


def with_objects(annotations: Annotations, outlines: dict[ImageId, list[Outline]] | None) -> Annotations:
    """The photos with a thing that is no crowd: the others teach the box head nothing (quirk Q18).

    Raises:
        CommandError: there are none.
    """
    things = annotations.categories.things.index

    def useful(image: ImageRecord) -> bool:
        if outlines is not None:
            return any(not outline.iscrowd for outline in outlines.get(image.id, []))
        return any(segment.category_id in things and not segment.iscrowd for segment in image.segments)

    kept = tuple(image for image in annotations.images if useful(image))
    if not kept:
        raise CommandError("No photo has a thing that is no crowd: there is nothing to train on.")
    return replace(annotations, images=kept)


if __name__ == "__main__":
    run(main)

"""`python -m model.evaluate`: an archive's PQ, SQ, RQ, mIoU and AP on an annotated folder.

python -m model.evaluate weights/camvid_demo.pt --annotations panoptic_val.json --images val --masks panoptic_val
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

from model.command import CommandError, run
from model.datasets.load import load_annotations
from model.datasets.records import Annotations, read_photo
from model.evaluate.multi_scale import MultiScale
from model.evaluate.scores import Analyst, Evaluation, evaluate
from model.interface.overlay import draw_overlay
from model.predictor import DTYPES, Predictor, choose_device


def table(result: dict[str, Any]) -> str:
    """The scores for reading."""
    lines = [f"{'':>24}     PQ     SQ     RQ    IoU     tp     fp     fn"]
    for name, row in result["per_class"].items():
        scores = " ".join(f"{row[key]:6.1f}" for key in ("pq", "sq", "rq", "iou"))
        lines.append(f"{name:>24} {scores} {row['tp']:6d} {row['fp']:6d} {row['fn']:6d}")
    for name in ("all", "things", "stuff"):
        lines.append(f"{name:>24} " + " ".join(f"{result[name][key]:6.1f}" for key in ("pq", "sq", "rq")))
    ap = ", ".join(
        f"{key.replace('_', ' ')} {result[key]:.1f}" for key in ("box_ap", "mask_ap") if result[key] is not None
    )
    lines.append(f"mIoU {result['miou']:.1f}" + (f", {ap}" if ap else "") + f"; {result['images']} images")
    return "\n".join(lines)


def draw_worst(predictor: Analyst, annotations: Annotations, evaluation: Evaluation, folder: Path) -> None:
    """Pictures of the ten images with the lowest PQ, named by it."""
    folder.mkdir(parents=True, exist_ok=True)
    records = {record.photo.name: record for record in annotations.images}
    for quality, name in sorted(evaluation.worst)[:10]:
        photo = read_photo(records[name])
        picture = draw_overlay(photo, predictor.analyze([photo])[0].panoptic, annotations.categories.colors)
        Image.fromarray(picture).save(folder / f"{quality:05.1f}_{Path(name).stem}.png")


def read_sides(text: str | None) -> list[int]:
    """Short sides from a comma-separated list; empty for none.

    Raises:
        CommandError: one is not a positive number.
    """
    sides = text.split(",") if text else []
    if not all(side.strip().isdigit() and int(side) > 0 for side in sides):
        raise CommandError(f"--short-sides {text}: expected numbers of pixels, such as 800,1024,1280.")
    return [int(side) for side in sides]


def open_analyst(args: argparse.Namespace) -> Analyst:
    """The network as it is served, or as one that looks several times."""
    if args.short_sides or args.flip:
        sides = read_sides(args.short_sides)
        return MultiScale.of_archive(args.archive, args.device, sides, args.flip, args.precision)
    return Predictor(args.archive, args.device, args.precision)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description=__doc__.split("\n")[0])
    parser.epilog = (
        "Example: python -m model.evaluate weights/camvid_demo.pt --annotations panoptic_val.json "
        "--images val --masks panoptic_val --json scores.json"
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument(
        "--annotations", required=True, type=Path, help="COCO-panoptic JSON, or Cityscapes' gtFine/SPLIT"
    )
    parser.add_argument("--images", required=True, type=Path, help="folder of photos, or leftImg8bit/SPLIT")
    parser.add_argument("--masks", type=Path, help="folder of id PNGs (Cityscapes: not needed)")
    parser.add_argument("--ids", help="FILE:KEY, a JSON whose KEY lists the image ids to evaluate (default: all)")
    parser.add_argument("--json", type=Path, help="file for the scores")
    parser.add_argument("--worst", type=Path, help="folder for pictures of the worst images")
    parser.add_argument("--processes", type=int, help="that score answers (default: one a core on CUDA, none on a CPU)")
    parser.add_argument("--short-sides", help="multi-scale testing at these, such as 800,1024,1280")
    parser.add_argument("--flip", action="store_true", help="multi-scale testing: each view also mirrored")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", *DTYPES), help="of the weights (auto: float16 on CUDA)"
    )
    args = parser.parse_args(argv)
    annotations = load_annotations(args.annotations, args.images, args.masks, args.ids)
    if not annotations.images:
        raise CommandError(f"{args.annotations} has no images to evaluate on.")
    predictor = open_analyst(args)
    processes = args.processes
    if processes is None:
        processes = min(os.cpu_count() or 1, 8) if choose_device(args.device).startswith("cuda") else 0
    evaluation = evaluate(predictor, annotations, processes=processes)
    result = evaluation.result()
    print(table(result))  # noqa: T201
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.worst:
        draw_worst(predictor, annotations, evaluation, args.worst)


if __name__ == "__main__":
    run(main)

"""`python -m model.evaluate`: an archive's PQ, SQ, RQ, mIoU and AP on an annotated folder.

uv run python -m model.evaluate weights/camvid_demo.pt --annotations panoptic_val.json --images val --masks panoptic_val
"""

import argparse
import json
from pathlib import Path
from typing import Any

from model.begin import begin

if __name__ in ("__main__", "__mp_main__"):  # this process, or one that scores answers
    begin()

from PIL import Image

from model.command import (
    add_archive,
    add_device,
    check_output_file,
    check_output_folder,
    new_parser,
    not_negative,
    path_name,
    positives,
    run,
    write,
)
from model.datasets.load import add_annotations, load_annotations
from model.datasets.records import Annotations, ImageId, picture_names, read_photo
from model.evaluate.multi_scale import MultiScale
from model.evaluate.scores import Analyzer, evaluate
from model.interface import host
from model.interface.overlay import draw_overlay
from model.predictor import Predictor, choose_device


def table(result: dict[str, Any]) -> str:
    """The scores as lines to read."""
    lines = [f"{'':>24}     PQ     SQ     RQ    IoU     tp     fp     fn"]
    for name, row in result["per_class"].items():
        scores = " ".join(f"{row[key]:6.1f}" for key in ("pq", "sq", "rq", "iou"))
        lines.append(f"{name:>24} {scores} {row['tp']:6d} {row['fp']:6d} {row['fn']:6d}")
    for name in ("all", "things", "stuff"):
        lines.append(f"{name:>24} " + " ".join(f"{result[name][key]:6.1f}" for key in ("pq", "sq", "rq")))
    others = [(name, score) for name, score in result.items() if isinstance(score, float)]
    line = ", ".join(f"{name.replace('miou', 'mIoU').replace('_', ' ')} {score:.1f}" for name, score in others)
    lines.append(f"{line}; {result['images']} images")
    return "\n".join(lines)


def draw_worst(analyzer: Analyzer, annotations: Annotations, image_pq: dict[ImageId, float], folder: Path) -> None:
    """Draw the ten images with the lowest PQ; the name of each file begins with it and tells the photo's path."""
    folder.mkdir(parents=True, exist_ok=True)
    names = picture_names(annotations.images)
    for record in sorted(annotations.images, key=lambda record: image_pq[record.id])[:10]:
        photo = read_photo(record)
        picture = draw_overlay(photo, analyzer.analyze([photo])[0].panoptic, analyzer.categories.colors)
        Image.fromarray(picture).save(folder / f"{image_pq[record.id]:05.1f}_{names[record.id]}.png")


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse places that the scores and the pictures cannot be written to.

    Raises:
        CommandError: so it is, or the scores would take the place of what they are computed from.
    """
    if args.worst:
        check_output_folder(args.worst)
    if args.json:
        ids = [Path(args.ids.rpartition(":")[0])] if args.ids else []
        check_output_file(args.json, args.archive, args.annotations, *ids)


def open_analyzer(args: argparse.Namespace) -> Analyzer:
    """The network as it is served, or with multi-scale testing."""
    if args.short_sides or args.flip:
        return MultiScale.of_archive(args.archive, args.device, args.short_sides, args.flip, args.precision)
    return Predictor(args.archive, args.device, args.precision)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = new_parser(__doc__)
    add_archive(parser)
    add_annotations(parser)
    parser.add_argument("--json", type=path_name, help="file to write the scores to")
    parser.add_argument("--worst", type=path_name, help="folder to draw the ten images with the lowest PQ in")
    parser.add_argument(
        "--processes",
        type=not_negative,
        help="processes that score answers (default: on CUDA one a core, at most 8; on a CPU 0)",
    )
    parser.add_argument(
        "--short-sides", type=positives, default=[], help="multi-scale testing: short sides, such as 800,1024,1280"
    )
    parser.add_argument("--flip", action="store_true", help="multi-scale testing: each view also mirrored")
    add_device(parser)
    args = parser.parse_args(argv)
    check_outputs(args)
    annotations = load_annotations(args.annotations, args.images, args.masks, args.ids)
    if args.json and args.json.exists():
        check_output_file(args.json, *(path for record in annotations.images for path in (record.photo, record.mask)))
    analyzer = open_analyzer(args)
    processes = args.processes
    if processes is None:
        processes = min(host.cores(), 8) if choose_device(args.device).startswith("cuda") else 0
    evaluation = evaluate(analyzer, annotations, processes=processes)
    result = evaluation.result()
    print(table(result))  # noqa: T201
    if args.json:
        write(args.json, json.dumps(result, indent=1) + "\n")
    if args.worst:
        draw_worst(analyzer, annotations, evaluation.image_pq, args.worst)


if __name__ == "__main__":
    run(main)

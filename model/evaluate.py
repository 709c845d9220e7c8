"""`python -m model.evaluate`: an archive's PQ, SQ, RQ, mIoU and AP on an annotated folder.

python -m model.evaluate weights/camvid_demo.pt --annotations panoptic_val.json --images val --masks panoptic_val
"""

import argparse
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from model import codec
from model.average_precision import AveragePrecision, Instances, instances
from model.categories import Category
from model.command import CommandError, run
from model.multi_scale import MultiScale
from model.overlay import draw_overlay
from model.panoptic import Panoptic
from model.panoptic_folder import (
    Annotations,
    ImageRecord,
    check_same_size,
    load_annotations,
    read_id_list,
    read_ids,
    read_photo,
)
from model.panoptic_quality import Labelled, PanopticQuality
from model.predictor import DTYPES, Analysis, Predictor, choose_device

AHEAD = 4


class Analyst(Protocol):
    """What is evaluated; `Predictor` is one."""

    metadata: Any

    def analyze(self, images: list[codec.Pixels]) -> list[Analysis]:
        """Everything found in each image."""


@dataclass(frozen=True)
class Measured:
    """What one image adds to the scores.

    Attributes:
        name: of the photo.
        quality: its tallies.
        confusion: (S, S) pixels by true and found semantic class.
        instances: for AP; None where it is not wanted.
    """

    name: str
    quality: PanopticQuality
    confusion: NDArray[np.int64]
    instances: Instances | None


def measure(record: ImageRecord, found: Analysis, categories: tuple[Category, ...], with_ap: bool) -> Measured:
    """Compare one image with its annotation.

    Raises:
        AnnotationError: the annotation contradicts itself.
    """
    ids = read_ids(record)
    check_same_size(record, found.panoptic.segment_ids.shape, ids)
    truth = Labelled(
        ids,
        {segment.id: segment.category_id for segment in record.segments},
        frozenset(segment.id for segment in record.segments if segment.iscrowd),
    )
    quality = PanopticQuality()
    quality.add(truth, labelled(found.panoptic))
    index = {label.id: i for i, label in enumerate(categories)}
    semantic = np.full(ids.shape, 255, np.int64)
    for segment in record.segments:
        semantic[ids == segment.id] = index[segment.category_id]
    classes = len(categories)
    valid = (semantic != 255) & (found.semantic < classes)
    pairs = semantic[valid] * classes + found.semantic[valid]
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return Measured(
        record.photo.name, quality, confusion, instances(record, ids, found, categories) if with_ap else None
    )


class Evaluation:
    """Scores over images, added one by one.

    Args:
        categories: in semantic order.
        with_ap: also box and mask AP, which needs pycocotools.
    """

    def __init__(self, categories: tuple[Category, ...], with_ap: bool = True) -> None:
        self.categories = categories
        self.quality = PanopticQuality()
        self.confusion = np.zeros((len(categories), len(categories)), np.int64)
        self.precision = AveragePrecision(categories) if with_ap else None
        self.worst: list[tuple[float, str]] = []

    def add(self, one: Measured) -> None:
        """Count one image."""
        self.quality = self.quality + one.quality
        self.worst.append((one.quality.average([label.id for label in self.categories])["pq"], one.name))
        self.confusion += one.confusion
        if self.precision and one.instances:
            self.precision.add(one.instances)

    def result(self) -> dict[str, Any]:
        """The scores, 0-100, as CONTRACT names them."""
        things = [label.id for label in self.categories if label.isthing]
        stuff = [label.id for label in self.categories if not label.isthing]
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diagonal()
        iou = 100 * self.confusion.diagonal() / np.maximum(union, 1)
        per_class = {}
        for i, label in enumerate(self.categories):
            tally = self.quality.tallies.get(label.id)
            if tally and tally.counts:
                counts = {"tp": tally.tp, "fp": tally.fp, "fn": tally.fn}
                per_class[label.name] = {**tally.scores(), "iou": float(iou[i]), **counts}
        precision = self.precision.result() if self.precision else {"box_ap": None, "mask_ap": None}
        return {
            "all": self.quality.average(things + stuff),
            "stuff": self.quality.average(stuff),
            "things": self.quality.average(things),
            "per_class": per_class,
            "miou": float(iou[union > 0].mean()) if (union > 0).any() else 0.0,
            **precision,
            "images": len(self.worst),
        }


def labelled(panoptic: Panoptic) -> Labelled:
    """An answer as the metric wants it."""
    return Labelled(panoptic.segment_ids, {segment.id: segment.category_id for segment in panoptic.segments})


def read_ahead(records: tuple[ImageRecord, ...], threads: int) -> Iterator[tuple[ImageRecord, codec.Pixels]]:
    """Photos in order, a few decoded ahead: memory stays bounded."""

    def read(record: ImageRecord) -> tuple[ImageRecord, codec.Pixels]:
        return record, read_photo(record)

    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(read, record) for record in records[:AHEAD])
        for i in range(len(records)):
            yield waiting.popleft().result()
            if i + AHEAD < len(records):
                waiting.append(pool.submit(read, records[i + AHEAD]))


def evaluate(
    predictor: Analyst, annotations: Annotations, with_ap: bool = True, progress: bool = True, processes: int = 0
) -> Evaluation:
    """Evaluate on every image of a data set.

    Args:
        predictor: analyses the photos, one by one, here.
        annotations: the data set.
        with_ap: also AP.
        progress: show a bar.
        processes: compare answers with annotations in so many processes; 0: in a thread beside the network.

    Raises:
        CommandError: archive and annotations differ in categories.
    """
    known = {label.id: label.name for label in predictor.metadata.categories}
    wanted = {label.id: label.name for label in annotations.categories}
    if known != wanted:
        odd = sorted(set(known.items()) ^ set(wanted.items()))[:5]
        raise CommandError(f"Archive and annotations differ in categories: {odd}. Evaluate on the archive's own.")
    labels = predictor.metadata.categories
    evaluation = Evaluation(labels, with_ap)
    pool: Executor = ThreadPoolExecutor(1)
    if processes:
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    bar = tqdm(total=len(annotations.images), unit="image", disable=not progress)
    with pool, bar:
        waiting: deque[Future[Measured]] = deque()
        for record, photo in read_ahead(annotations.images, 2):
            waiting.append(pool.submit(measure, record, predictor.analyze([photo])[0], labels, with_ap))
            while waiting and (waiting[0].done() or len(waiting) > 2 * processes + AHEAD):
                evaluation.add(waiting.popleft().result())
                bar.update()
        for future in waiting:
            evaluation.add(future.result())
            bar.update()
    return evaluation


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
    colors = {label.id: label.color for label in annotations.categories}
    records = {record.photo.name: record for record in annotations.images}
    for quality, name in sorted(evaluation.worst)[:10]:
        photo = read_photo(records[name])
        picture = draw_overlay(photo, predictor.analyze([photo])[0].panoptic, colors)
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
    annotations = load_annotations(args.annotations, args.images, args.masks)
    if args.ids:
        annotations = annotations.select(read_id_list(args.ids))
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

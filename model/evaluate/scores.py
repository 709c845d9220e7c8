"""Scores of answers against annotations, image by image."""

import multiprocessing
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.command import CommandError
from model.datasets.records import Annotations, ImageRecord, check_same_size, read_ids, read_photo
from model.evaluate.average_precision import AveragePrecision, Instances, instances
from model.evaluate.panoptic_quality import Labelled, PanopticQuality
from model.interface.categories import Labels
from model.interface.panoptic import Panoptic, Pixels
from model.predictor import Analysis
from model.read_ahead import read_ahead

AHEAD = 4


class Analyst(Protocol):
    """What is evaluated; `Predictor` is one."""

    categories: Labels

    def analyze(self, images: list[Pixels]) -> list[Analysis]:
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


def measure(record: ImageRecord, found: Analysis, categories: Labels, with_ap: bool) -> Measured:
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
    semantic = np.full(ids.shape, 255, np.int64)
    for segment in record.segments:
        semantic[ids == segment.id] = categories.index[segment.category_id]
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

    def __init__(self, categories: Labels, with_ap: bool = True) -> None:
        self.categories = categories
        self.quality = PanopticQuality()
        self.confusion = np.zeros((len(categories), len(categories)), np.int64)
        self.precision = AveragePrecision(categories) if with_ap else None
        self.worst: list[tuple[float, str]] = []

    def add(self, one: Measured) -> None:
        """Count one image."""
        self.quality = self.quality + one.quality
        self.worst.append((one.quality.average(self.categories.ids)["pq"], one.name))
        self.confusion += one.confusion
        if self.precision and one.instances:
            self.precision.add(one.instances)

    def result(self) -> dict[str, Any]:
        """The scores, 0-100, as CONTRACT names them."""
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
            "all": self.quality.average(self.categories.things.ids + self.categories.stuff.ids),
            "stuff": self.quality.average(self.categories.stuff.ids),
            "things": self.quality.average(self.categories.things.ids),
            "per_class": per_class,
            "miou": float(iou[union > 0].mean()) if (union > 0).any() else 0.0,
            **precision,
            "images": len(self.worst),
        }


def labelled(panoptic: Panoptic) -> Labelled:
    """An answer as the metric wants it."""
    return Labelled(panoptic.segment_ids, {segment.id: segment.category_id for segment in panoptic.segments})


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
    labels, wanted = predictor.categories, annotations.categories
    odd = sorted(set(zip(labels.ids, labels.names, strict=True)) ^ set(zip(wanted.ids, wanted.names, strict=True)))
    if odd:
        raise CommandError(f"Archive and annotations differ in categories: {odd[:5]}. Evaluate on the archive's own.")
    evaluation = Evaluation(labels, with_ap)
    pool: Executor = ThreadPoolExecutor(1)
    if processes:
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    bar = tqdm(total=len(annotations.images), unit="image", disable=not progress)
    with pool, bar:
        waiting: deque[Future[Measured]] = deque()
        for record, photo in read_ahead(annotations.images, read_photo, AHEAD, threads=2):
            found = predictor.analyze([photo.result()])[0]
            waiting.append(pool.submit(measure, record, found, labels, with_ap))
            while waiting and (waiting[0].done() or len(waiting) > 2 * processes + AHEAD):
                evaluation.add(waiting.popleft().result())
                bar.update()
        for future in waiting:
            evaluation.add(future.result())
            bar.update()
    return evaluation

"""Scores of a network against annotations, summed over images."""

import multiprocessing
import signal
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.datasets.records import Annotations, ImageId, ImageRecord, check_same_size, read_ids, read_photo
from model.evaluate.average_precision import AveragePrecision, EncodedInstances, encode_instances
from model.evaluate.panoptic_quality import PanopticQuality, SegmentMap
from model.interface.categories import Labels
from model.interface.panoptic import Panoptic, Pixels
from model.predictor import Analysis
from model.read_ahead import read_ahead

AHEAD = 4
"""Photos that are decoded ahead, and answers waiting to be scored."""


class Analyzer(Protocol):
    """A network to evaluate, such as a `Predictor`."""

    categories: Labels

    def analyze(self, images: list[Pixels]) -> list[Analysis]:
        """Everything found in each image."""


@dataclass(frozen=True)
class ImageScores:
    """What one image adds to the scores.

    Attributes:
        number: the image's id.
        quality: matched and unmatched segments of each category.
        confusion: (S, S) number of pixels by true and found semantic class.
        instances: things, annotated and found, for AP; None where AP is not wanted.
    """

    number: ImageId
    quality: PanopticQuality
    confusion: NDArray[np.int64]
    instances: EncodedInstances | None


def score_image(record: ImageRecord, found: Analysis, categories: Labels, with_ap: bool) -> ImageScores:
    """Compare the answer for one image with its annotation.

    Raises:
        AnnotationError: the annotation contradicts itself.
    """
    ids = read_ids(record)
    check_same_size(record, found.panoptic.segment_ids.shape, ids)
    truth = SegmentMap(
        ids,
        {segment.id: segment.category_id for segment in record.segments},
        frozenset(segment.id for segment in record.segments if segment.iscrowd),
    )
    quality = PanopticQuality()
    quality.add(truth, to_segment_map(found.panoptic))
    semantic = np.full(ids.shape, -1, np.int64)
    for segment in record.segments:
        semantic[ids == segment.id] = categories.index[segment.category_id]
    classes = len(categories)
    valid = (semantic >= 0) & (found.semantic < classes)
    pairs = semantic[valid] * classes + found.semantic[valid]
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    instances = encode_instances(record, ids, found, categories) if with_ap else None
    return ImageScores(record.id, quality, confusion, instances)


class Evaluation:
    """Scores over images, added one by one.

    Args:
        categories: the classes to score.
        with_ap: whether box and mask AP are computed too, for which pycocotools is needed.

    Attributes:
        image_pq: PQ of each image, by its id.
    """

    def __init__(self, categories: Labels, with_ap: bool = True) -> None:
        self.categories = categories
        self.quality = PanopticQuality()
        self.confusion = np.zeros((len(categories), len(categories)), np.int64)
        self.average_precision = AveragePrecision(categories) if with_ap else None
        self.image_pq: dict[ImageId, float] = {}

    def add(self, image: ImageScores) -> None:
        """Count one image."""
        self.quality = self.quality + image.quality
        self.image_pq[image.number] = image.quality.average(self.categories.ids)["pq"]
        self.confusion += image.confusion
        if self.average_precision and image.instances:
            self.average_precision.add(image.instances)

    def result(self) -> dict[str, Any]:
        """All scores, 0-100, by name; those of the categories by category name in `per_class`."""
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diagonal()
        iou = 100 * self.confusion.diagonal() / np.maximum(union, 1)
        per_class = {}
        for i, label in enumerate(self.categories):
            tally = self.quality.tallies.get(label.id)
            if tally and tally.counts:
                counts = {"tp": tally.tp, "fp": tally.fp, "fn": tally.fn}
                per_class[label.name] = {**tally.scores(), "iou": float(iou[i]), **counts}
        ap = self.average_precision.result() if self.average_precision else {"box_ap": None, "mask_ap": None}
        return {
            "all": self.quality.average(self.categories.things.ids + self.categories.stuff.ids),
            "stuff": self.quality.average(self.categories.stuff.ids),
            "things": self.quality.average(self.categories.things.ids),
            "per_class": per_class,
            "miou": float(iou[union > 0].mean()) if (union > 0).any() else 0.0,
            **ap,
            "images": len(self.image_pq),
        }


def to_segment_map(panoptic: Panoptic) -> SegmentMap:
    """An answer in the form that panoptic quality compares."""
    return SegmentMap(panoptic.segment_ids, {segment.id: segment.category_id for segment in panoptic.segments})


def evaluate(
    analyzer: Analyzer, annotations: Annotations, with_ap: bool = True, progress: bool = True, processes: int = 0
) -> Evaluation:
    """Evaluate a network on every image of a data set.

    Args:
        analyzer: the network; it gets one photo at a time, in this process.
        annotations: the data set; its classes may be in another order than the network's, or fewer.
        with_ap: whether box and mask AP are computed too.
        progress: whether a progress bar is shown.
        processes: number of processes that score the answers; with 0, a thread does it.

    Raises:
        CommandError: the annotations have a class that is none of the network's, or AP needs what is not installed.
    """
    labels = analyzer.categories
    annotations = annotations.relabel(labels)
    evaluation = Evaluation(labels, with_ap)
    pool: Executor = ThreadPoolExecutor(1)
    if processes:
        quiet = (signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to all processes, and this one ends them
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), signal.signal, quiet)
    bar = tqdm(total=len(annotations.images), unit="image", disable=not progress)
    with pool, bar:
        waiting: deque[Future[ImageScores]] = deque()
        for record, photo in read_ahead(annotations.images, read_photo, AHEAD, threads=2):
            found = analyzer.analyze([photo.result()])[0]
            waiting.append(pool.submit(score_image, record, found, labels, with_ap))
            while waiting and (waiting[0].done() or len(waiting) > 2 * processes + AHEAD):
                evaluation.add(waiting.popleft().result())
                bar.update()
        for future in waiting:
            evaluation.add(future.result())
            bar.update()
    return evaluation

"""Panoptic quality (Kirillov et al. 2019), by the rules of panopticapi, which published numbers follow.

A prediction matches a ground-truth segment of its category when their IoU is above 0.5, over the pixels that are not
void in the ground truth. Crowds in the ground truth are never matched or missed. A prediction without a match is not a
false positive when more than half of it lies on void or on a crowd of its category.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VOID = 0
OFFSET = 1 << 32


class SegmentMap(NamedTuple):
    """The segments of an image.

    Attributes:
        ids: (H, W) segment id of each pixel, 0 for void.
        categories: category id by segment id, in the annotation's order.
        crowds: ids of the segments that are crowds (ground truth only).
    """

    ids: NDArray[np.integer]
    categories: Mapping[int, int]
    crowds: frozenset[int] = frozenset()


@dataclass
class Tally:
    """Counts of one category.

    Attributes:
        iou: sum of the matches' IoU.
        tp: number of matches.
        fp: number of predictions without a match.
        fn: number of ground-truth segments without a match.
    """

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.iou + other.iou, self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def counts(self) -> bool:
        """Whether the category occurs, and so takes part in averages."""
        return self.tp + self.fp + self.fn > 0

    def scores(self) -> dict[str, float]:
        """PQ, SQ and RQ, 0-100; 0 for a category that does not occur."""
        segments = self.tp + 0.5 * self.fp + 0.5 * self.fn
        return {
            "pq": 100 * self.iou / segments if segments else 0.0,
            "sq": 100 * self.iou / self.tp if self.tp else 0.0,
            "rq": 100 * self.tp / segments if segments else 0.0,
        }


@dataclass
class PanopticQuality:
    """Counts over any number of images; two can be added.

    Attributes:
        tallies: counts by category id.
    """

    tallies: dict[int, Tally] = field(default_factory=dict)

    def add(self, truth: SegmentMap, prediction: SegmentMap) -> None:
        """Count one image."""
        for category, tally in compare(truth, prediction).items():
            self.tallies[category] = self.tallies.get(category, Tally()) + tally

    def __add__(self, other: "PanopticQuality") -> "PanopticQuality":
        keys = self.tallies.keys() | other.tallies.keys()
        empty = Tally()
        return PanopticQuality({key: self.tallies.get(key, empty) + other.tallies.get(key, empty) for key in keys})

    def average(self, categories: Sequence[int]) -> dict[str, float]:
        """Means of PQ, SQ and RQ over the given categories, without those that do not occur."""
        rows = [self.tallies[c].scores() for c in categories if c in self.tallies and self.tallies[c].counts]
        return {name: float(np.mean([row[name] for row in rows])) if rows else 0.0 for name in ("pq", "sq", "rq")}


def compare(truth: SegmentMap, prediction: SegmentMap) -> dict[int, Tally]:
    """Counts of one image, by category id."""
    joint, counts = np.unique(truth.ids.astype(np.int64) * OFFSET + prediction.ids, return_counts=True)
    overlap = {(int(pair) // OFFSET, int(pair) % OFFSET): int(count) for pair, count in zip(joint, counts, strict=True)}
    truth_area, prediction_area = _areas(truth.ids), _areas(prediction.ids)
    tallies: dict[int, Tally] = {}

    def tally(category: int) -> Tally:
        return tallies.setdefault(category, Tally())

    matched_truth, matched_prediction = set(), set()
    for (there, found), intersection in overlap.items():
        if there == VOID or found == VOID or there in truth.crowds:
            continue
        category = truth.categories[there]
        if category != prediction.categories[found]:
            continue
        union = truth_area[there] + prediction_area[found] - intersection - overlap.get((VOID, found), 0)
        if intersection / union > 0.5:
            tally(category).iou += intersection / union
            tally(category).tp += 1
            matched_truth.add(there)
            matched_prediction.add(found)
    crowd_of = {category: crowd for crowd, category in truth.categories.items() if crowd in truth.crowds}
    for there in truth.categories:
        if there not in matched_truth and there not in truth.crowds:
            tally(truth.categories[there]).fn += 1
    for found, category in prediction.categories.items():
        if found in matched_prediction:
            continue
        ignored = overlap.get((VOID, found), 0)
        if category in crowd_of:
            ignored += overlap.get((crowd_of[category], found), 0)
        if ignored / prediction_area[found] <= 0.5:
            tally(category).fp += 1
    return tallies


def _areas(ids: NDArray[np.integer]) -> dict[int, int]:
    values, counts = np.unique(ids, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}

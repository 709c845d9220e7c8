"""The metric on maps small enough to count by hand, and against its rules written once more, plainly."""

from collections import defaultdict

import numpy as np
import pytest

from model.evaluate.panoptic_quality import PanopticQuality, SegmentMap, Tally, compare


def row(*ids: int) -> np.ndarray:
    return np.array([ids])


def test_a_match_needs_more_than_half() -> None:
    truth = SegmentMap(row(1, 1, 1, 1, 2, 2), {1: 7, 2: 8})
    found = SegmentMap(row(5, 5, 5, 6, 6, 6), {5: 7, 6: 8})
    tallies = compare(truth, found)
    assert tallies[7] == Tally(iou=3 / 4, tp=1)
    assert tallies[8] == Tally(iou=2 / 3, tp=1)
    half = compare(SegmentMap(row(1, 1), {1: 7}), SegmentMap(row(5, 0), {5: 7}))
    assert half[7] == Tally(fp=1, fn=1)


def test_pixels_on_void_do_not_count_against_a_match() -> None:
    truth = SegmentMap(row(1, 1, 0, 0, 0), {1: 7})
    found = SegmentMap(row(5, 5, 5, 5, 5), {5: 7})
    assert compare(truth, found)[7] == Tally(iou=1.0, tp=1)


def test_a_prediction_mostly_on_void_or_on_its_crowd_is_no_false_positive() -> None:
    on_void = compare(SegmentMap(row(0, 0, 1), {1: 8}), SegmentMap(row(5, 5, 5), {5: 7}))
    assert 7 not in on_void
    truth = SegmentMap(row(3, 3, 3, 1), {3: 7, 1: 8}, frozenset({3}))
    assert compare(truth, SegmentMap(row(5, 5, 5, 5), {5: 7})) == {8: Tally(fn=1)}
    other_class = compare(truth, SegmentMap(row(5, 5, 5, 5), {5: 9}))
    assert other_class[9] == Tally(fp=1)


def test_a_crowd_is_never_missed() -> None:
    assert compare(SegmentMap(row(3, 3), {3: 7}, frozenset({3})), SegmentMap(row(0, 0), {})) == {}


def test_scores_and_averages() -> None:
    quality = PanopticQuality({7: Tally(iou=1.5, tp=2, fp=1, fn=1), 8: Tally(fn=2)})
    assert quality.tallies[7].scores() == {"pq": 50.0, "sq": 75.0, "rq": pytest.approx(200 / 3)}
    assert quality.average([7, 8, 9])["pq"] == 25.0
    assert (quality + quality).tallies[8].fn == 4
    assert PanopticQuality().average([7]) == {"pq": 0.0, "sq": 0.0, "rq": 0.0}


def plain_tallies(truth: SegmentMap, found: SegmentMap) -> dict[int, Tally]:
    """The published rules, one pair of boolean masks at a time."""
    tallies: dict[int, Tally] = defaultdict(Tally)
    void = ~np.isin(truth.ids, list(truth.categories))
    matched = set()
    for there, category in truth.categories.items():
        if there in truth.crowds:
            continue
        hit = False
        for segment, kind in found.categories.items():
            a, b = truth.ids == there, (found.ids == segment) & ~void
            if kind == category and 2 * (a & b).sum() > (a | b).sum():
                tallies[category].tp += 1
                tallies[category].iou += (a & b).sum() / (a | b).sum()
                matched.add(segment)
                hit = True
        tallies[category].fn += not hit
    for segment, kind in found.categories.items():
        if segment in matched:
            continue
        crowds = [crowd for crowd, category in truth.categories.items() if crowd in truth.crowds and category == kind]
        ignored = void | (truth.ids == crowds[-1]) if crowds else void  # of several crowds the last listed counts
        area = found.ids == segment
        tallies[kind].fp += 2 * (area & ignored).sum() <= area.sum()
    return {category: tally for category, tally in tallies.items() if tally.counts}


def random_segment_map(rng: np.random.Generator, crowds: float, near: np.ndarray | None = None) -> SegmentMap:
    """Rectangles over each other on void; `near` another map, so that many segments match."""
    ids = np.zeros((24, 32), np.int32) if near is None else np.where(rng.random(near.shape) < 0.9, near, 0)
    for _ in range(rng.integers(0, 9)):
        top, left = rng.integers(0, 20), rng.integers(0, 26)
        ids[top : top + rng.integers(1, 14), left : left + rng.integers(1, 16)] = rng.integers(0, 16_000_000)
    present = rng.permutation([int(value) for value in np.unique(ids) if value])
    categories = {int(value): int(value) % 4 + 1 for value in present}
    return SegmentMap(ids, categories, frozenset(s for s in categories if rng.random() < crowds))


def test_random_maps_follow_the_published_rules() -> None:
    rng = np.random.default_rng(0)
    matches = crowds = 0
    for _ in range(400):
        truth = random_segment_map(rng, crowds=0.3)
        found = random_segment_map(rng, 0.0, near=truth.ids if rng.random() < 0.7 else None)
        ours = {category: tally for category, tally in compare(truth, found).items() if tally.counts}
        plain = plain_tallies(truth, found)
        assert ours.keys() == plain.keys()
        for category, tally in ours.items():
            other = plain[category]
            assert (tally.tp, tally.fp, tally.fn) == (other.tp, other.fp, other.fn)
            assert tally.iou == pytest.approx(other.iou, abs=1e-9)
            matches += tally.tp
        crowds += len(truth.crowds)
    assert matches > 300
    assert crowds > 200

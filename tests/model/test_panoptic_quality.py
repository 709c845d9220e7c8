"""The metric on maps small enough to count by hand."""

import numpy as np
import pytest

from model.panoptic_quality import Labelled, PanopticQuality, Tally, compare


def row(*ids: int) -> np.ndarray:
    return np.array([ids])


def test_a_match_needs_more_than_half() -> None:
    truth = Labelled(row(1, 1, 1, 1, 2, 2), {1: 7, 2: 8})
    found = Labelled(row(5, 5, 5, 6, 6, 6), {5: 7, 6: 8})
    tallies = compare(truth, found)
    assert tallies[7] == Tally(iou=3 / 4, tp=1)
    assert tallies[8] == Tally(iou=2 / 3, tp=1)
    half = compare(Labelled(row(1, 1), {1: 7}), Labelled(row(5, 0), {5: 7}))
    assert half[7] == Tally(fp=1, fn=1)


def test_pixels_on_void_do_not_count_against_a_match() -> None:
    truth = Labelled(row(1, 1, 0, 0, 0), {1: 7})
    found = Labelled(row(5, 5, 5, 5, 5), {5: 7})
    assert compare(truth, found)[7] == Tally(iou=1.0, tp=1)


def test_a_prediction_mostly_on_void_or_on_its_crowd_is_no_false_positive() -> None:
    on_void = compare(Labelled(row(0, 0, 1), {1: 8}), Labelled(row(5, 5, 5), {5: 7}))
    assert 7 not in on_void
    truth = Labelled(row(3, 3, 3, 1), {3: 7, 1: 8}, frozenset({3}))
    assert compare(truth, Labelled(row(5, 5, 5, 5), {5: 7})) == {8: Tally(fn=1)}
    other_class = compare(truth, Labelled(row(5, 5, 5, 5), {5: 9}))
    assert other_class[9] == Tally(fp=1)


def test_a_crowd_is_never_missed() -> None:
    assert compare(Labelled(row(3, 3), {3: 7}, frozenset({3})), Labelled(row(0, 0), {})) == {}


def test_scores_and_averages() -> None:
    quality = PanopticQuality({7: Tally(iou=1.5, tp=2, fp=1, fn=1), 8: Tally(fn=2)})
    assert quality.tallies[7].scores() == {"pq": 50.0, "sq": 75.0, "rq": pytest.approx(200 / 3)}
    assert quality.average([7, 8, 9])["pq"] == 25.0
    assert (quality + quality).tallies[8].fn == 4
    assert PanopticQuality().average([7]) == {"pq": 0.0, "sq": 0.0, "rq": 0.0}

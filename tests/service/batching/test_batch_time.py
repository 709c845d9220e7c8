"""How long a batch takes, from the times of those before it."""

import pytest

from service.batching.batch_time import BatchTime


def test_the_line_through_the_times_is_learned() -> None:
    times = BatchTime()
    assert times.seconds(3) == 0.0
    for images in (1, 8, 4, 2, 8):
        times.learn(images, 0.020 + 0.005 * images)
    assert times.seconds(6) == pytest.approx(0.050)


def test_a_change_is_followed_and_no_time_is_negative() -> None:
    times = BatchTime()
    for seconds in [1.0] * 10 + [0.1] * 60:
        times.learn(4, seconds)
    assert times.seconds(4) == pytest.approx(0.1, rel=0.05)
    times.learn(8, 9.0)
    assert times.seconds(1) >= 0.0


def test_one_size_of_batch_is_taken_in_proportion() -> None:
    times = BatchTime()
    times.learn(4, 0.4)
    assert times.seconds(1) == pytest.approx(0.1)
    assert times.seconds(8) == pytest.approx(0.8)


def test_doubt_takes_a_tenth() -> None:
    times = BatchTime()
    times.learn(2, 1.0)
    times.doubt()
    assert times.seconds(2) == pytest.approx(0.9)

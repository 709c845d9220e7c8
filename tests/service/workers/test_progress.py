"""How long a start may still take, by a clock that the test sets."""

import pytest

from service.errors import NotReadyError
from service.workers.progress import Progress, Start


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_first_start_is_guessed_until_a_part_of_it_is_known(clock: Clock) -> None:
    progress = Progress(None, clock)
    assert progress.left == 12.0
    clock.now += 2
    progress.reach("torch is imported", 0.1)  # too early to tell: a slow process would make it 20 s
    assert (progress.step, progress.left) == ("torch is imported", 10.0)
    clock.now += 18
    progress.reach("the archive is loaded", 0.8)
    assert progress.left == pytest.approx(5.0)  # 20 s were 80 %
    clock.now += 3
    assert progress.left == pytest.approx(2.0)


def test_a_start_that_takes_too_long_is_told_longer_times_that_never_become_absurd(clock: Clock) -> None:
    progress = Progress(None, clock)
    told = []
    for _ in range(600):
        told.append(NotReadyError.for_now("It loads.", progress.left).retry_after)
        clock.now += 1
    assert told[:3] == [12, 11, 10]
    assert min(told) == 1
    assert told[60] == 12  # 48 s too late
    assert max(told) == 60


def test_a_restart_is_expected_to_take_what_the_last_start_took(clock: Clock) -> None:
    start = Start(clock)
    assert start.begin().left == 12.0
    assert start.outlook(restart=False) == ("The model is loading: a process starts.", 12.0)
    clock.now += 30
    start.succeed()
    assert start.outlook(restart=False) == ("The model is loading.", 0.0)
    assert start.outlook(restart=True) == ("The worker is restarting.", 30.0)
    again = start.begin()
    clock.now += 10
    again.reach("warm-up 1 of 2", 0.9)  # the last start tells more than a share of this one
    assert start.outlook(restart=True) == ("The worker is restarting: warm-up 1 of 2.", 20.0)


def test_a_start_that_fails_is_told_with_its_cause_until_one_succeeds(clock: Clock) -> None:
    start = Start(clock)
    start.begin()
    clock.now += 4
    start.succeed()
    start.begin()
    start.fail("The archive is gone.", 8.0)
    clock.now += 2
    cause = "The worker cannot be started again: The archive is gone."
    assert start.outlook(restart=True) == (cause, 6.0)
    clock.now += 6
    assert start.outlook(restart=True) == (cause, 0.0)
    start.begin()
    clock.now += 1
    assert start.outlook(restart=True) == (cause, 3.0)
    start.succeed()
    assert start.outlook(restart=True) == ("The worker is restarting.", 1.0)

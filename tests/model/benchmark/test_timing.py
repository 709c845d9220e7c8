"""What is run how often, and what is counted of it; no test looks at a time."""

import time
from pathlib import Path

import pytest
import torch

from model.benchmark import timing
from model.benchmark.timing import Times, alternate, peak_bytes, seconds


def test_runs_alternate_after_a_first_round_that_does_not_count() -> None:
    made: list[str] = []
    times = alternate({"ours": lambda: made.append("ours"), "plain": lambda: made.append("plain")}, 2, "cpu")
    assert made == ["ours", "plain"] * 3
    assert set(times.seconds) == set(times.cpu_seconds) == {"ours", "plain"}


def test_the_middle_of_the_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 99, 0, 5, 0, 1, 0, 3])  # a start and an end of each run, the first not counted
    processor = iter([0, 10, 0, 2, 0, 6])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: next(processor))
    assert alternate({"ours": lambda: None}, 3, "cpu") == Times({"ours": 3}, {"ours": 6})


def test_ratios_are_to_ours() -> None:
    times = Times({"ours": 2.0, "plain": 5.0}, {"ours": 4.0, "plain": 2.0})
    assert times.ratios("plain") == {"ratio": 2.5, "cpu_ratio": 0.5}


def test_a_run_takes_as_long_as_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert seconds(lambda: None, "cpu") == 2.5


def test_peak_memory_counts_what_a_run_allocates() -> None:
    found = peak_bytes(lambda: torch.ones(25_000_000).sum(), "cpu")
    if found is None:
        pytest.skip("this host does not tell a process's peak memory")
    assert 90e6 < found < 200e6


def test_a_host_that_does_not_tell_has_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    assert peak_bytes(lambda: None, "cpu") is None
    monkeypatch.undo()
    monkeypatch.setattr(timing, "_resident", lambda _: 7)
    assert peak_bytes(lambda: None, "cpu") in (0, None)

"""Time and memory of a run, on any device."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from model import memory

Run = Callable[[], Any]
"""Something to measure: it is called without arguments."""


class Times(NamedTuple):
    """Median seconds of each run, by name.

    Attributes:
        seconds: by the clock.
        cpu_seconds: of the processor, summed over all threads. Other programs hardly disturb it with one thread. With
            more threads it also counts their waiting for each other.
    """

    seconds: dict[str, float]
    cpu_seconds: dict[str, float]

    def ratios(self, name: str) -> dict[str, float]:
        """The time of one run divided by that of `ours`, for both kinds of time."""
        ours, theirs = self.seconds["ours"], self.seconds[name]
        return {"ratio": theirs / ours, "cpu_ratio": self.cpu_seconds[name] / max(self.cpu_seconds["ours"], 1e-9)}


def seconds(run: Run, device: str) -> float:
    """Seconds of one run; the device has finished everything before it starts and when it ends."""
    _synchronise(device)
    start = time.perf_counter()
    run()
    _synchronise(device)
    return time.perf_counter() - start


def alternate(runs: Mapping[str, Run], rounds: int, device: str) -> Times:
    """Median times over some rounds.

    Each run is made once a round, so that a disturbance from outside hits all of them alike. A first round is not
    counted.
    """
    for run in runs.values():
        seconds(run, device)
    clock: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            clock[name].append(seconds(run, device))
            processor[name].append(time.process_time() - start)
    medians = [{name: statistics.median(times) for name, times in each.items()} for each in (clock, processor)]
    return Times(*medians)


def peak_bytes(run: Run, device: str) -> int | None:
    """Most memory that one run holds beyond what was held before it; None where the host does not tell.

    On a CPU, this is how far the process's resident set grows, as Linux counts it.
    """
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds(run, device)
        return torch.cuda.max_memory_allocated(device) - before
    memory.release()  # memory that was freed and kept would not count as growth
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _resident("VmRSS")
        run()
        return max(_resident("VmHWM") - before, 0)
    except OSError:
        return None


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)

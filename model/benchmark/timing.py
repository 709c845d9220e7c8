"""How long something takes and how much memory it needs, on any device."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from model import memory

Work = Callable[[], Any]


class Times(NamedTuple):
    """Median seconds of each work by name.

    Attributes:
        seconds: by the clock.
        cpu_seconds: of the processor, over all threads. On one thread other processes disturb them little; more threads
            wait for each other in it.
    """

    seconds: dict[str, float]
    cpu_seconds: dict[str, float]

    def ratios(self, work: str) -> dict[str, float]:
        """How many times as long as `ours` a work takes, by either time."""
        ours, theirs = self.seconds["ours"], self.seconds[work]
        return {"ratio": theirs / ours, "cpu_ratio": self.cpu_seconds[work] / max(self.cpu_seconds["ours"], 1e-9)}


def seconds(work: Work, device: str) -> float:
    """One run, the device's queue drained before and after."""
    _synchronise(device)
    start = time.perf_counter()
    work()
    _synchronise(device)
    return time.perf_counter() - start


def alternate(works: Mapping[str, Work], rounds: int, device: str) -> Times:
    """Medians of some rounds.

    Each work runs once a round, so that a disturbance from outside meets all of them alike; one run of each comes
    before the rounds and is not counted.
    """
    for work in works.values():
        seconds(work, device)
    taken: dict[str, list[float]] = {name: [] for name in works}
    worked: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            taken[name].append(seconds(work, device))
            worked[name].append(time.process_time() - start)
    medians = [{name: statistics.median(times) for name, times in each.items()} for each in (taken, worked)]
    return Times(medians[0], medians[1])


def peak_bytes(work: Work, device: str) -> int | None:
    """Memory that one run needs beyond what is held before it; None where the host does not tell.

    On a CPU the growth of the process's resident set, as Linux counts it.
    """
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds(work, device)
        return torch.cuda.max_memory_allocated(device) - before
    memory.release()  # what was freed and kept would not count as growth
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        before = _resident("VmRSS")
        work()
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

"""How long something takes and how much memory it needs, on any device."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], Any]


def seconds(work: Work, device: str) -> float:
    """One run, the device's queue drained before and after."""
    _synchronise(device)
    start = time.perf_counter()
    work()
    _synchronise(device)
    return time.perf_counter() - start


def alternate(works: Mapping[str, Work], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each work by name.

    Each runs once a round, so that a disturbance from outside meets all of them alike; one run of each comes before
    the rounds and is not counted.
    """
    for work in works.values():
        seconds(work, device)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds(work, device))
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_bytes(work: Work, device: str) -> int | None:
    """Memory that one run needs beyond what is held before it; None where the host does not tell.

    On a CPU the growth of the process's resident set, as Linux counts it.
    """
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds(work, device)
        return torch.cuda.max_memory_allocated(device) - before
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

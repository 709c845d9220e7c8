"""Times of a device, and the sizes to measure at: whole on a GPU, small on a CPU to see that all of it runs."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

Run = Callable[[], Any]
"""Something to measure: it is called without arguments."""


class Bench:
    """A device to measure on.

    Args:
        dry: small, on the CPU, each run once.

    Attributes:
        device: `cpu` or `cuda`.
        size: height and width of the images.
        batch: images of the large batch.
        dtype: of the weights.
        configuration: of the network with random weights.
    """

    def __init__(self, dry: bool) -> None:
        self.dry = dry
        self.device = "cpu" if dry else "cuda"
        self.size = (64, 96) if dry else (800, 1333)
        self.batch = 2 if dry else 8
        self.dtype = torch.float32 if dry else torch.float16
        self.configuration = "camvid_demo" if dry else "coco_r50"

    def drain(self) -> None:
        """Wait until the device has done everything."""
        if not self.dry:
            torch.cuda.synchronize()

    def laps(self, run: Run, rounds: int, warm: int = 3) -> list[float]:
        """Seconds of each of some calls by the clock, the device drained before and after each; ascending."""
        rounds, warm = (1, 0) if self.dry else (rounds, warm)
        for _ in range(warm):
            run()
        laps = []
        for _ in range(rounds):
            self.drain()
            start = time.perf_counter()
            run()
            self.drain()
            laps.append(time.perf_counter() - start)
        return sorted(laps)

    def wall(self, run: Run, rounds: int = 20) -> float:
        """Median seconds of a call by the clock."""
        return statistics.median(self.laps(run, rounds))

    def queued(self, run: Run, rounds: int = 20) -> float:
        """Seconds of a call among many in a row: the longer of host and device. The median of three rows."""
        if self.dry:
            return self.wall(run, 1)
        for _ in range(3):
            run()
        rows = []
        for _ in range(3):
            self.drain()
            start = time.perf_counter()
            for _ in range(rounds):
                run()
            self.drain()
            rows.append((time.perf_counter() - start) / rounds)
        return statistics.median(rows)

    def replayed(self, run: Run, rounds: int = 20) -> float | None:
        """Seconds of the device alone, launches excluded: a CUDA graph of the call, replayed in a row.

        None where the call cannot be captured, because it waits for the device.
        """
        if self.dry:
            return self.wall(run, 1)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        self.drain()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                run()
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        graph.replay()
        return self.events(lambda: [graph.replay() for _ in range(rounds)], 3) / rounds

    def events(self, run: Run, rounds: int = 20) -> float:
        """Median seconds of a call between two events of the device."""
        if self.dry:
            return self.wall(run, 1)
        for _ in range(3):
            run()
        laps = []
        for _ in range(rounds):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.drain()
            start.record()
            run()
            end.record()
            self.drain()
            laps.append(start.elapsed_time(end) / 1000)
        return statistics.median(laps)

    def peak(self, run: Run) -> int:
        """Most bytes of the device that a call holds beyond what was held before; 0 on a CPU."""
        if self.dry:
            run()
            return 0
        run()
        self.drain()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        self.drain()
        return torch.cuda.max_memory_allocated() - before

    def batches(self) -> Iterator[int]:
        """Batch sizes to measure at: one image, and many."""
        yield from (1, self.batch)

"""What the machine is, and its ceilings: copies, products, transfers, the cost of a launch."""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.gpu.measure import Bench
from tests.gpu.rows import Row

PACKAGES = ("torch", "torchvision", "triton", "numpy", "transformers", "pytest", "fastapi", "uvicorn", "simplejpeg")
QUERY = "name,driver_version,clocks.sm,clocks.max.sm,clocks.max.memory,power.limit,pcie.link.gen.max,memory.total"
TRANSFERS = {"0.9 MB (640 x 480)": 921_600, "25.6 MB (8 photos of 800 x 1333)": 25_593_600}


def software(_: Bench) -> Iterator[Row]:
    """Versions, and what Triton needs to build its launchers."""
    yield Row("Python", sys.version.split()[0])
    for name in PACKAGES:
        try:
            yield Row(name, str(importlib.import_module(name).__version__))
        except ImportError:
            yield Row(name, "not installed")
    header = Path(sysconfig.get_path("include"), "Python.h").is_file()
    yield Row("C compiler, Python.h", f"{shutil.which('cc') or shutil.which('gcc') or 'none'}, {header}")
    yield Row("cores", len(os.sched_getaffinity(0)))


def card(bench: Bench) -> Iterator[Row]:
    """The device, its driver and clocks."""
    if bench.dry:
        yield Row("card", "none")
        return
    known = torch.cuda.get_device_properties(0)
    yield Row("card", known.name, note=f"{known.multi_processor_count} multiprocessors")
    yield Row("compute capability", f"{known.major}.{known.minor}")
    yield Row("memory", known.total_memory / 2**30, "GiB")
    yield Row("CUDA of torch, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
    query = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    told = subprocess.run(query, capture_output=True, text=True, timeout=20)
    for name, value in zip(QUERY.split(","), told.stdout.splitlines()[0].split(", "), strict=True):
        yield Row(name.replace(".", " ").replace("_", " "), value)


def bandwidth(bench: Bench) -> Iterator[Row]:
    """Bytes a second of a copy on the device, read and written both counted."""
    source = torch.empty(1 << (20 if bench.dry else 31), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    seconds = bench.events(lambda: target.copy_(source))
    yield Row("copy on the device", 2 * source.numel() / seconds / 1e12, "TB/s")


def products(bench: Bench) -> Iterator[Row]:
    """Rate of a matrix product."""
    side = 128 if bench.dry else 8192
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        rate = 2 * side**3 / bench.events(lambda: a @ b, 10) / 1e12  # noqa: B023
        yield Row(f"product of matrices, {name}", rate, "TFLOP/s")


def transfers(bench: Bench) -> Iterator[Row]:
    """Times of copies between host and device, from ordinary memory and from pinned."""
    if bench.dry:
        return
    for name, count in TRANSFERS.items():
        ordinary = torch.zeros(count, dtype=torch.uint8)
        there = torch.empty(count, dtype=torch.uint8, device=bench.device)
        for kind, here in (("ordinary", ordinary), ("pinned", ordinary.pin_memory())):
            yield Row(f"to the device, {kind}, {name}", 1e3 * bench.wall(lambda: there.copy_(here)), "ms")  # noqa: B023
            yield Row(f"to the host, {kind}, {name}", 1e3 * bench.wall(lambda: here.copy_(there)), "ms")  # noqa: B023


def launches(bench: Bench) -> Iterator[Row]:
    """Time of a launch in a row of them, and of an empty wait."""
    one = torch.zeros(1, device=bench.device)
    yield Row("one launch, in a row", 1e6 * bench.queued(lambda: one.add_(1), 2000), "us")
    yield Row("one launch and a wait", 1e6 * bench.wall(lambda: one.add_(1), 200), "us")


PARTS = (software, card, bandwidth, products, transfers, launches)

"""How many GPUs torch would find, without importing it: that takes seconds, and the front never does."""

import contextlib
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROBE_SECONDS = 5.0
"""A driver that takes longer is left to the worker."""
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE, from cuda.h."""
_PROBE = """
import ctypes
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    print("none")
else:
    count = ctypes.c_int()
    print(driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)), count.value)
"""


@dataclass(frozen=True)
class Gpus:
    """The GPUs of this host that a process started from here sees.

    Attributes:
        count: how many there are; None where that cannot be known.
        reason: a clause that says so, for a message.
    """

    count: int | None
    reason: str


UNKNOWN = Gpus(None, "nobody knows which GPUs there are")


def look() -> Gpus:
    """Ask torch's build whether it can use NVIDIA's GPUs, and the driver, in a process of its own, how many."""
    built_for_cuda = _built_for_cuda()
    if built_for_cuda is None or sys.platform != "linux":
        return UNKNOWN
    if not built_for_cuda:
        return Gpus(0, "the installed torch is built without CUDA")
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        probe = [sys.executable, "-I", "-S", "-c", _PROBE]
        run = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True)
        if run.stdout.strip() == "none":
            return Gpus(0, "this host has no CUDA driver")
        status, count = map(int, run.stdout.split())
        if status in (0, NO_DEVICE):
            return Gpus(count, f"{count or 'no'} GPU{'s' * (count != 1)} can be seen here")
        return Gpus(0, f"the CUDA driver fails with error {status}")
    return UNKNOWN


def _built_for_cuda() -> bool | None:
    """What torch's `version.py` says; None where it is missing, or for AMD's GPUs, which answer to the same names."""
    with contextlib.suppress(OSError, ValueError):
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.origin is not None:
            text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
            built_for = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(.+)$", text, re.MULTILINE))
            if built_for.get("hip", "None") == "None" and "cuda" in built_for:
                return bool(built_for["cuda"] != "None")
    return None

"""Whether kernels run well on devices that this host need not have."""

import json
import os
import subprocess
import sys
from typing import Any

REGISTERS = 65536  # of a multiprocessor
SHARED = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB of a block, by compute capability


def compiled(module: str, *capabilities: int) -> list[dict[str, Any]]:
    """What each kernel of a module uses, compiled for each capability."""
    command = [sys.executable, "-m", "tests.model.kernels.compiled", module, *map(str, capabilities)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "0"})
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def kernels_that_run_well(module: str, *capabilities: int, spilled: int = 0) -> list[str]:
    """Names of a module's kernels, each of which leaves room for eight warps on each device.

    None spills more than `spilled` bytes of a thread.
    """
    capabilities = capabilities or (80, 90)
    kernels = compiled(module, *capabilities)
    for kernel in kernels:
        assert kernel["spilled"] <= spilled, kernel
        blocks = REGISTERS // (32 * kernel["warps"] * kernel["registers"])
        blocks = min(blocks, SHARED[kernel["capability"]] * 1024 // (kernel["shared"] + 1024))
        assert blocks * kernel["warps"] >= 8, kernel
    assert {kernel["capability"] for kernel in kernels} == set(capabilities)
    return [kernel["kernel"] for kernel in kernels if kernel["capability"] == capabilities[0]]

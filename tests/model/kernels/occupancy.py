"""Whether kernels run well on devices that this host need not have."""

import json
import os
import subprocess
import sys

REGISTERS, SHARED = 65536, {80: 163 * 1024, 90: 227 * 1024}  # of a multiprocessor


def kernels_that_run_well(module: str) -> list[str]:
    """Names of a module's kernels, each of which spills nothing and leaves room for eight warps on each device."""
    command = [sys.executable, "-m", "tests.model.kernels.compiled", module]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "0"})
    assert run.returncode == 0, run.stderr
    kernels = [json.loads(line) for line in run.stdout.splitlines()]
    for kernel in kernels:
        assert kernel["spilled"] == 0, kernel
        blocks = REGISTERS // (32 * kernel["warps"] * kernel["registers"])
        blocks = min(blocks, SHARED[kernel["capability"]] // (kernel["shared"] + 1024))
        assert blocks * kernel["warps"] >= 8, kernel
    assert {kernel["capability"] for kernel in kernels} == set(SHARED)
    return [kernel["kernel"] for kernel in kernels if kernel["capability"] == 80]

"""The kernels compile for devices that this host need not have."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
REGISTERS, SHARED = 65536, {80: 163 * 1024, 90: 227 * 1024}  # of a multiprocessor


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling_and_leave_room_for_eight_warps(capability: int) -> None:
    command = [sys.executable, "-m", "tests.model.kernels.compiled", str(capability)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "0"})
    assert run.returncode == 0, run.stderr
    kernels = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(kernels) == 10
    for kernel in kernels:
        assert kernel["spilled"] == 0, kernel
        blocks = REGISTERS // (32 * kernel["warps"] * kernel["registers"])
        blocks = min(blocks, SHARED[capability] // (kernel["shared"] + 1024))
        assert blocks * kernel["warps"] >= 8, kernel

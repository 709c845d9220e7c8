"""What a command sets is what torch reads."""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = """
import os, signal
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from model.begin import begin
begin()
import torch
print(torch.get_num_threads(), os.environ["GOMP_SPINCOUNT"], signal.getsignal(signal.SIGINT) == signal.SIG_DFL)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
@pytest.mark.parametrize("asked", [{}, {"OMP_NUM_THREADS": "4"}, {"MKL_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE"}])
def test_torch_takes_the_number_of_threads(asked: dict[str, str]) -> None:
    """Of a process that may run on one core; torch alone takes what is asked for."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={**given, **asked})
    assert done.stdout == "1 1000 True\n"

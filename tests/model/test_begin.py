"""What a command sets is what torch reads."""

import os
import subprocess
import sys

from tests.paths import ROOT

PROGRAM = """
import os, signal
from model.begin import begin
begin()
import torch
print(torch.get_num_threads(), os.environ["GOMP_SPINCOUNT"], signal.getsignal(signal.SIGINT) == signal.SIG_DFL)
"""


def test_torch_takes_the_number_of_threads() -> None:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env={**given, "OMP_NUM_THREADS": "1"}
    )
    assert done.stdout == "1 1000 True\n"

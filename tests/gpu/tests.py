"""The tests that a device runs: those of the kernels, on its compiler, and those that need one."""

import re
import subprocess
import sys
from collections.abc import Iterator

from tests.gpu.measure import Bench
from tests.gpu.rows import Row
from tests.paths import ROOT

COUNT = re.compile(r"(\d+) (passed|failed|error|skipped)")


def pytest_rows(name: str, *options: str) -> Iterator[Row]:
    """How many tests fail, of how many; which, in the note."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    last = run.stdout.rstrip().rpartition("\n")[2]
    counts = {what: int(number) for number, what in COUNT.findall(last)}
    wrong = counts.get("failed", 0) + counts.get("error", 0)
    broken = run.returncode not in (0, 1) or not counts.get("passed")
    named = "; ".join(re.findall(r"^(?:FAILED|ERROR) (.*)", run.stdout, re.MULTILINE))
    note = f"{last.strip('= ')}. {named or (run.stderr or run.stdout)[-300:] if broken or wrong else ''}"
    yield Row(name, None if broken else wrong, "", " ".join(note.split())[:800], failed=broken or bool(wrong))


def of_the_kernels(bench: Bench) -> Iterator[Row]:
    """Tests of the kernels; not of what compiles without a device."""
    only = ["-k", "planes_end" if bench.dry else "not need_not_have"]
    folder = "tests/model/kernels/" + ("test_masks.py" if bench.dry else "")
    yield from pytest_rows("tests of the kernels that fail", folder, *only)


def that_need_a_device(bench: Bench) -> Iterator[Row]:
    """Tests with the marker `gpu`; other files may import what this host lacks."""
    if not bench.dry:
        files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8")]
        yield from pytest_rows("tests that need a device that fail", "-m", "gpu", *sorted(files))


PARTS = (of_the_kernels, that_need_a_device)

"""Sections as processes with limits of their own."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.gpu.rows import Row, number, read_row


@dataclass
class Outcome:
    """What came of a process that runs sections.

    Attributes:
        status: `ran`, or how it ended.
        seconds: how long it took.
        rows: its figures.
        told: the end of what it wrote besides, where it did not end well.
    """

    status: str = "ran"
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    told: str = ""


def run_process(
    name: str, command: Sequence[str], environment: Mapping[str, str], limit: float, say: Callable[[str], object]
) -> Outcome:
    """Run a command that prints rows; it and its children are killed when its time is over.

    Args:
        name: of the sections that it runs.
        command: what to run.
        environment: its variables.
        limit: seconds that it may take; without a few it is not run.
        say: is given a line for each row, and one at the end.
    """
    outcome = Outcome()
    if limit < 1:
        outcome.status = "not run: the time was over"
        return outcome
    start = time.monotonic()
    other = []
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process,
    ):
        timer = threading.Timer(limit, _kill, [process.pid])
        timer.start()
        for line in process.stdout or ():
            if row := read_row(line):
                outcome.rows.append(row)
                say(f"{row.section:10} {row.name}: {number(row.figure)} {row.unit}  {row.note}".rstrip())
            else:
                other.append(line)
        code = process.wait()
        timer.cancel()
        _kill(process.pid)  # what it left behind
        outcome.seconds = time.monotonic() - start
        if code:
            outcome.status = f"over its {limit:.0f} s" if outcome.seconds >= limit else f"ended with status {code}"
            errors.seek(0)
            outcome.told = ("".join(other) + errors.read().decode(errors="replace"))[-4000:]
            say(outcome.told)
    say(f"{name:10} {outcome.status} after {outcome.seconds:.0f} s")
    return outcome


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

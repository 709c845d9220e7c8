"""`python -m tests.gpu`: facts, speed, accuracy and load on the GPU of this host, in one table.

    uv run python -m tests.gpu                            # all of it: up to a quarter of an hour on one GPU
    uv run python -m tests.gpu --only network,profile
    uv run python -m tests.gpu --dry                      # small, on the CPU: does all of it run?

Each section is a process with a limit of its own, so that one that crashes or hangs ends alone; a part of a section
that fails is a row that says so. Figures are printed as they come, then as a table; `--json` has them as well, and is
written after each section. UPSNET_SHARED names a folder with parity arrays and photos; what needs them is left out
without it.

The exit status is 0 if everything ran and every figure is within what it must reach; dry, figures are not
judged.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.interface import outputs
from tests import interpreter
from tests.gpu.rows import Row, table, to_json, verdict
from tests.gpu.sections import Outcome, run_process

if TYPE_CHECKING:
    from tests.gpu.measure import Bench  # imports torch, which only the processes of sections need

SECTIONS = {
    "facts": 60,
    "kernels": 120,
    "tests": 240,
    "network": 120,
    "heads": 60,
    "profile": 90,
    "accuracy": 120,
    "training": 90,
    "serving": 180,
}
"""Each section, and the most seconds that it may take."""


def print_rows(name: str, bench: "Bench") -> None:
    """Run a section in this process and print its rows, as its parent reads them."""
    for part in importlib.import_module(f"tests.gpu.{name}").PARTS:
        try:
            for row in part(bench):
                print(replace(row, section=name).line(), flush=True)
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            row = Row(part.__name__.replace("_", " "), None, note=words[:300], failed=True, section=name)
            print(row.line(), flush=True)
            traceback.print_exc()


def run_all(names: list[str], dry: bool, seconds: float, out: Path | None) -> dict[str, Outcome]:
    """The outcome of each process, by the sections that it runs; those for which no time is left are not run.

    A dry run has two processes at once: its figures mean nothing, and most of its time goes to loading torch.
    """
    end = time.monotonic() + seconds
    groups = [group for group in (names[::2], names[1::2]) if group] if dry else [[name] for name in names]
    outcomes: dict[str, Outcome] = {}

    def one(group: list[str]) -> None:
        title = ",".join(group)
        command = [sys.executable, "-m", "tests.gpu", "--run", title, *(["--dry"] if dry else [])]
        environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"} if dry else dict(os.environ)
        limit = min(sum(SECTIONS[name] for name in group), end - time.monotonic())
        outcomes[title] = run_process(title, command, environment, limit, lambda text: print(text, flush=True))
        if out:
            write(out, outcomes, dry)

    with ThreadPoolExecutor(2 if dry else 1) as pool:
        list(pool.map(one, groups))
    return outcomes


def rows_of(outcomes: dict[str, Outcome]) -> list[Row]:
    """All rows, in the order of the sections."""
    rows = [row for outcome in list(outcomes.values()) for row in outcome.rows]
    return sorted(rows, key=lambda row: list(SECTIONS).index(row.section))


def write(path: Path, outcomes: dict[str, Outcome], dry: bool) -> None:
    """Write what is known as JSON."""
    known: dict[str, Any] = {"dry": dry, "when": time.strftime("%Y-%m-%d %H:%M"), "processes": {}}
    for name, outcome in dict(outcomes).items():
        seconds = round(outcome.seconds, 1)
        known["processes"][name] = {"status": outcome.status, "seconds": seconds, "told": outcome.told}
    known["rows"] = [to_json(row, dry) for row in rows_of(outcomes)]
    outputs.write(path, json.dumps(known, indent=1) + "\n")


def has_device() -> bool:
    """Whether this host has a GPU that torch can use."""
    import torch  # this process needs it for nothing else

    return torch.cuda.is_available()


def section_names(text: str) -> list[str]:
    """`network,profile` as a list, for an argument's `type`."""
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return names


def seconds(text: str) -> float:
    """A time, for an argument's `type`."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds, such as 900; got {text!r}")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=section_names, default=list(SECTIONS), help="sections, comma-separated")
    parser.add_argument("--seconds", type=seconds, default=900, help="limit for all of it (default: 900)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--dry", action="store_true", help="small, on the CPU; nothing is judged")
    parser.add_argument("--run", type=section_names, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.run:
        from tests.gpu.measure import Bench

        if args.dry:
            interpreter.mend()
        bench = Bench(args.dry)
        for name in args.run:
            print_rows(name, bench)
        return 0
    dry = args.dry
    if not dry and not has_device():
        parser.error("torch finds no GPU here; --dry runs every section small, on the CPU")
    if args.json:
        try:
            outputs.check_file(args.json)
        except outputs.OutputError as error:
            parser.error(f"--json: {error}")
    outcomes = run_all(args.only, dry, args.seconds, args.json)
    rows = rows_of(outcomes)
    print("\n".join(["", *table(rows, dry), ""]))
    wrong = [
        f"{row.section}: {row.name}: {told}" for row in rows if (told := verdict(row, dry)) in ("failed", "missed")
    ]
    wrong += [f"{name}: {outcome.status}" for name, outcome in outcomes.items() if outcome.status != "ran"]
    print("\n".join(wrong) or "Everything ran" + ("." if dry else ", and every figure is within what it must reach."))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.gpu`: facts, speed, accuracy and load on the GPU of this host, in one table.

    uv run python -m tests.gpu                            # all of it: about ten minutes on one GPU
    uv run python -m tests.gpu --only network,profile
    uv run python -m tests.gpu --dry                      # small, on the CPU: does all of it run?

Each section is a process with a limit of its own, so that one that crashes or hangs ends alone; a part of a section
that fails is a row that says so. Figures are printed as they come, then as a table; `--json` has them as well, and is
written after each section. UPSNET_SHARED names a folder with parity arrays and photos; what needs them is left out
without it.

The exit status is 0 if everything ran and every figure is within what it must reach; without a GPU, figures are not
judged.
"""

import argparse
import importlib
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.gpu.rows import Row, table, verdict
from tests.gpu.sections import Outcome, run_section

SECTIONS = {
    "facts": 60,
    "kernels": 120,
    "tests": 240,
    "network": 120,
    "heads": 60,
    "profile": 90,
    "accuracy": 120,
    "training": 90,
    "serving": 150,
}
"""Each section, and the most seconds that it may take."""


def print_rows(name: str, dry: bool) -> None:
    """Run a section in this process and print its rows, as its parent reads them."""
    from tests.gpu.measure import Bench

    bench = Bench(dry)
    parts = importlib.import_module(f"tests.gpu.{name}").PARTS
    for part in parts:
        try:
            for row in part(bench):
                print(row.line(), flush=True)
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            print(Row(part.__name__.replace("_", " "), None, note=words[:300], failed=True).line(), flush=True)


def run_sections(names: list[str], dry: bool, seconds: float, out: Path | None) -> dict[str, Outcome]:
    """The outcome of each section; those for which no time is left are not run."""
    end = time.monotonic() + seconds
    outcomes: dict[str, Outcome] = {}

    def one(name: str) -> None:
        command = [sys.executable, "-m", "tests.gpu", "--section", name, *(["--dry"] if dry else [])]
        environment = {**os.environ, "TRITON_INTERPRET": "1"} if dry else dict(os.environ)
        limit = min(SECTIONS[name], end - time.monotonic())
        outcomes[name] = run_section(name, command, environment, limit, lambda text: print(text, flush=True))
        if out:
            write(out, outcomes, dry)

    with ThreadPoolExecutor(2 if dry else 1) as pool:  # figures of a dry run mean nothing: two at once
        list(pool.map(one, names))
    return {name: outcomes[name] for name in names}


def write(path: Path, outcomes: dict[str, Outcome], dry: bool) -> None:
    """Write what is known as JSON."""
    known: dict[str, Any] = {"dry": dry, "when": time.strftime("%Y-%m-%d %H:%M"), "sections": {}}
    for name, outcome in dict(outcomes).items():
        known["sections"][name] = outcome.to_json(dry)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


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


def main(argv: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=section_names, default=list(SECTIONS), help="sections, comma-separated")
    parser.add_argument("--seconds", type=float, default=900, help="limit for all of it (default: 900)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--dry", action="store_true", help="small, on the CPU; so without a GPU")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.section:
        print_rows(args.section, args.dry)
        return 0
    dry = args.dry or not has_device()
    outcomes = run_sections(args.only, dry, args.seconds, args.json)
    rows = [(name, row) for name, outcome in outcomes.items() for row in outcome.rows]
    print("\n".join(["", *table(rows, dry), ""]))
    wrong = [f"{name}: {row.name}: {told}" for name, row in rows if (told := verdict(row, dry)) in ("failed", "missed")]
    wrong += [f"{name}: {outcome.status}" for name, outcome in outcomes.items() if outcome.status != "ran"]
    print("\n".join(wrong) or "Everything ran" + ("." if dry else ", and every figure is within what it must reach."))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

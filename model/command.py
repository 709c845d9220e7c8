"""The parts that every command of this package shares: its parser, common arguments, and how it ends.

A command exits with 0, with 2 for bad usage, or with 1 and one line that says what to do.
"""

import argparse
import importlib.util
import io
import math
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from model.interface import outputs
from model.interface.archive_file import ArchiveError
from model.interface.failures import is_shortage, is_unwritten, one_line
from model.interface.outputs import OutputError
from model.interface.served import PRECISIONS

LARGEST = 10**9
"""Whole numbers above it are mistakes, and libraries written in C do not take them."""

EXTRAS = {"pycocotools": "train", "tensorboard": "train", "ray": "ray"}
"""The extra that installs a package."""
MISSING = "This needs {package}, of the extra `{extra}`. Install it with `uv sync --extra {extra}`."


check_output_file, check_output_folder, write = outputs.check_file, outputs.check_folder, outputs.write
"""What a command asks before its work begins, and how it writes."""


class CommandError(Exception):
    """A mistake that the user can correct; the message says what happened and what to do."""


def new_parser(doc: str) -> argparse.ArgumentParser:
    """A command's parser, without arguments yet.

    Args:
        doc: docstring of the command's module: "`python -m NAME`: what it does.", a blank line, an example a line.
    """
    title, examples = doc.split("\n\n")[:2]
    example = examples.strip().splitlines()[0]
    return argparse.ArgumentParser(prog=title.split("`")[1], description=title, epilog=f"Example: {example}")


def add_archive(parser: argparse.ArgumentParser) -> None:
    """Add the archive to use, as the first positional argument."""
    parser.add_argument("archive", type=path_name, help="archive of the network (.pt)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device` and `--precision`."""
    parser.add_argument(
        "--device",
        type=device,
        default="auto",
        help="cpu, cuda, cuda:N, or auto for CUDA where there is a GPU (default)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", *PRECISIONS),
        help="type of the weights; auto (default): float16 on CUDA, bfloat16 on CPUs with units for it, else float32",
    )


def device(text: str) -> str:
    """The name of a device, for an argument's `type`."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N, got {text!r}")
    return text


def path_name(text: str) -> Path:
    """A path, for an argument's `type`; an empty one is a mistake and not the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return Path(text)


def positive(text: str, largest: int = LARGEST) -> int:
    """A whole number from 1 to `largest`, for an argument's `type`."""
    value = whole(text, " above 0")
    if not 1 <= value <= largest:
        limit = "above 0" if value < 1 else f"from 1 to {largest}"
        raise argparse.ArgumentTypeError(f"expected a whole number {limit}, got {text!r}")
    return value


def not_negative(text: str) -> int:
    """A whole number from 0 to `LARGEST`, for an argument's `type`."""
    value = whole(text, ", 0 or more")
    if value > LARGEST:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LARGEST}, got {text!r}")
    return value


def whole(text: str, limit: str) -> int:
    """A whole number without a sign; `limit` is what a refusal says of it."""
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise argparse.ArgumentTypeError(f"expected a whole number{limit}, got {text!r}")
    return int(text)


def threads(text: str) -> int:
    """A number of threads or processes that a host can start, for an argument's `type`."""
    return positive(text, largest=1024)


def number(text: str, largest: float = sys.float_info.max) -> float:
    """A number from 0 to `largest`, for an argument's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= largest:
        limit = f"from 0 to {largest:g}" if largest < sys.float_info.max else "0 or more"
        raise argparse.ArgumentTypeError(f"expected a number, {limit}, got {text!r}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1, for an argument's `type`."""
    return number(text, largest=1)


def positives(text: str) -> list[int]:
    """Whole numbers above 0 from a comma-separated list, for an argument's `type`."""
    return [positive(part) for part in text.split(",")]


def printable(text: object) -> str:
    """A text in one line, without what a terminal does not print: a file's name may hold line breaks and any bytes."""
    line = " ".join(part.strip() for part in str(text).splitlines())
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


def need(package: str) -> None:
    """Refuse to begin what ends without a package that only an extra installs.

    Raises:
        CommandError: it is not installed; the message says how it is.
    """
    if importlib.util.find_spec(package) is None:
        raise CommandError(MISSING.format(package=package, extra=EXTRAS[package]))


def run(main: Callable[[], int | None]) -> None:
    """Run `main` and exit. A user's mistake prints its message; any other error is a bug and shows its trace."""
    interrupts = count_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files are any bytes
    try:
        try:
            status = main() or 0
        finally:
            outputs.flush()
    except KeyboardInterrupt:
        end("stopped", 130)
    except BrokenPipeError:
        end("stopped: what read the output has ended", 141)
    except (CommandError, ArchiveError, OutputError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # from a library; those of the operating system say what is wrong and name the file
        end(f"error: {printable(error)}", 1)
    except Exception as error:
        if interrupts:  # where torch calls back into Python, it makes another error of it
            end("stopped", 130)
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            end(f"error: {MISSING.format(package=error.name, extra=EXTRAS[error.name])}", 1)
        if is_shortage(error):
            end(f"error: {printable(one_line(error))}. Memory is short: use a smaller size, or fewer at a time.", 1)
        if is_unwritten(error):
            end(f"error: {printable(one_line(error))}. A file could not be written: is the disk full?", 1)
        raise
    sys.exit(status)


def count_interrupts() -> list[int]:
    """From now on Ctrl+C raises a KeyboardInterrupt and adds to this list; while a command imports, it ends it."""
    signals: list[int] = []

    def stop(number: int, _: object) -> NoReturn:
        signals.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)
    return signals


def end(line: str, status: int) -> NoReturn:
    """Print a last line and exit."""
    print(line, file=sys.stderr)  # noqa: T201
    sys.exit(status)

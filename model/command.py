"""The parts that every command of this package shares: its parser, common arguments, and how it ends.

A command exits with 0, with 2 for bad usage, or with 1 and one line that says what to do.
"""

import argparse
import math
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from model.interface.archive_file import ArchiveError
from model.interface.served import PRECISIONS


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
    parser.add_argument("archive", type=Path, help="archive of the network (.pt)")


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
        help="type of the weights, or auto for float16 on CUDA and float32 on a CPU (default)",
    )


def device(text: str) -> str:
    """The name of a device, for an argument's `type`."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N, got {text!r}")
    return text


def positive(text: str) -> int:
    """A whole number above 0, for an argument's `type`."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number from 0, for an argument's `type`."""
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)


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


def check_output_file(path: Path) -> None:
    """Refuse a file that could not be written, before the work for it begins.

    Missing folders above it are made. A file that is there is not changed, and none is left where there was none.

    Raises:
        CommandError: it is a folder, or the operating system does not let it be written.
    """
    try:
        if path.is_dir():
            raise CommandError(f"{path} is a folder: name a file in it to write to.")
        if path.is_file():
            path.open("ab").close()
        elif not path.exists():  # a pipe or a device is opened once, to be written to
            check_output_folder(path.parent)
            path.open("ab").close()
            path.unlink()
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}. Name another place.") from error


def check_output_folder(path: Path) -> None:
    """Make a folder for output, and refuse one in which no file can be made, before the work for it begins.

    Raises:
        CommandError: it is a file, or the operating system does not let it be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError as error:
        raise CommandError(f"{path} is no folder: name one to write to.") from error
    except OSError as error:
        raise CommandError(f"{path} cannot be written to: {error.strerror}. Name another place.") from error


def run(main: Callable[[], int | None]) -> None:
    """Run `main` and exit. A user's mistake prints its message; any other error is a bug and shows its trace."""
    try:
        sys.exit(main() or 0)
    except (CommandError, ArchiveError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # from a library; those of the operating system say what is wrong and name the file
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        sys.exit(130)

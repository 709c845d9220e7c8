"""How every command of this package ends: 0, 2 for bad usage, or 1 with one line that says what to do."""

import sys
from collections.abc import Callable


class CommandError(Exception):
    """A known mistake; the message is for the person at the keyboard."""


def run(main: Callable[[], int | None]) -> None:
    """Run `main` and exit: known mistakes print their message, without a traceback."""
    from model.archive import ArchiveError
    from model.checkpoint import CheckpointError
    from model.datasets.records import AnnotationError

    try:
        sys.exit(main() or 0)
    except (AnnotationError, ArchiveError, CheckpointError, CommandError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        sys.exit(130)

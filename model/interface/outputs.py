"""Files that commands write: whether they can be written, asked before the work begins, and then in one step."""

import os
import stat
import sys
import tempfile
from pathlib import Path


class OutputError(Exception):
    """Something cannot be written where it should be; the message is one line and says what to do."""


def check_file(path: Path, *inputs: Path) -> None:
    """Refuse a file that could not be written.

    Missing folders above it are made. A file that is there is not changed, and none is left where there was none.

    Args:
        path: the file; or a pipe or device, which is opened once, to be written to.
        inputs: files that the same command reads.

    Raises:
        OutputError: it is a folder or one of the inputs, or the operating system does not let it be written.
    """
    try:
        place = Path(os.path.realpath(path))
        if place.is_symlink():
            raise OutputError(f"{path} is a link that leads to itself. Name another place.")
        if place.is_dir():
            raise OutputError(f"{path} is a folder: name a file in it to write to.")
        if place.exists() and any(each.exists() and each.samefile(place) for each in inputs):
            raise OutputError(f"{path} is read by this command too: name another file to write to.")
        if place.is_file():
            place.open("ab").close()
        if place.is_file() or not place.exists():
            check_folder(place.parent)
            _part(place).unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}. Name another place.") from error


def check_folder(path: Path) -> None:
    """Make a folder for output, and refuse one in which no file can be made.

    Raises:
        OutputError: it is a file, or the operating system does not let it be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError as error:
        raise OutputError(f"{path} is no folder: name one to write to.") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written to: {error.strerror}. Name another place.") from error


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file in one step: whatever happens, it is the old one or the new one. A link to it stays one.

    A pipe or a device, `/dev/stdout` among them, is written to as it is.

    Args:
        path: the file; its folder is there.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OSError: the operating system does not let it be written.
    """
    content = content.encode() if isinstance(content, str) else content
    place = Path(os.path.realpath(path))
    if path.parts[:2] in (("/", "dev"), ("/", "proc")) or (place.exists() and not place.is_file()):
        with path.open("ab") as file:
            file.write(content)
        return
    part = _part(place)
    try:
        part.write_bytes(content)
        if place.exists():
            part.chmod(stat.S_IMODE(place.stat().st_mode))
        put(part, place)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put(part: Path, place: Path) -> None:
    """Give a file that is written the name of another, which it replaces; both are in one folder."""
    with part.open("rb") as file:
        os.fsync(file.fileno())  # the name must not outlive the content when the host stops
    part.replace(place)


def flush() -> None:
    """Write out what was printed. Where that fails, it fails here and not again when the process ends.

    Raises:
        OSError: a full disk; a BrokenPipeError where what read the output has ended.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise


def _part(place: Path) -> Path:
    """A new, empty file beside a place: two that write there at a time have two."""
    part = place.with_name(f".{place.name:.60}.{os.urandom(4).hex()}.part")
    part.touch(exist_ok=False)
    return part

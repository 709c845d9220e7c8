"""The record of a run, for people to read: a line of losses for each step, and TensorBoard files."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Self

from model.command import CommandError
from model.interface.panoptic import Pixels


class History:
    """`losses.jsonl` in the folder of a run, and TensorBoard's files beside it where the `train` extra is installed.

    Args:
        folder: folder of the run.
        done_steps: steps whose lines a resumed run keeps; later steps, which it repeats, and cut lines are dropped.

    Raises:
        CommandError: another run writes there; after `kill -9` of torchrun its processes still do.
    """

    def __init__(self, folder: Path, done_steps: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "losses.jsonl").open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise CommandError(f"Another run is writing to {folder}. Stop it first, or name another --out.") from None
        self._file.seek(0)
        content = self._file.read()
        kept = _kept(content, done_steps)
        if content.startswith(kept):
            self._file.truncate(len(kept))  # so that a stop here loses nothing
        else:
            self._file.truncate(0)
            self._file.write(kept)
            self._file.flush()
        self._board = _tensorboard(folder)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Write the losses of one step; the first is step 0."""
        self._file.write(json.dumps({"step": step, **values}).encode() + b"\n")
        if self._board and step % 20 == 0:
            for name, value in values.items():
                self._board.add_scalar(f"train/{name}", value, step)

    def add_scores(self, step: int, scores: dict[str, float]) -> None:
        """Write the validation scores after a number of steps."""
        if self._board:
            for name, value in scores.items():
                self._board.add_scalar(f"validation/{name}", value, step)

    def add_picture(self, step: int, name: str, picture: Pixels) -> None:
        """Write the (H, W, 3) overlay of a validation photo."""
        if self._board:
            self._board.add_image(name, picture, step, dataformats="HWC")

    def flush(self) -> None:
        """Write everything to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._board:
            self._board.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._board:
            self._board.close()


def _kept(content: bytes, done_steps: int) -> bytes:
    """The lines of the steps below a number, each once and in order; the last one where there are several."""
    lines: dict[int, bytes] = {}
    for line in content.split(b"\n"):
        try:
            step = json.loads(line)["step"]
        except (ValueError, TypeError, KeyError, RecursionError):  # a line that a stop has cut
            continue
        if type(step) is int and 0 <= step < done_steps:
            lines[step] = line + b"\n"
    return b"".join(lines[step] for step in sorted(lines))


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))

"""What libraries write to standard output and error: read from a pipe, and logged within a budget.

The pipe never holds up a writer: one that is full takes no more. The thread that reads could not promise it, since
libraries also write while they hold the lock of the interpreter.
"""

import contextlib
import fcntl
import logging
import os
import re
import select
import threading
import time
from collections import deque

from service.logs import LIBRARIES

log = logging.getLogger(LIBRARIES)

LINES, CHARACTERS, SECONDS = 5, 200, 60.0
"""So many lines of a process, each cut to so many characters, are logged in so many seconds."""
LAST_CHARACTERS = 1000
"""Of the lines that were held back when a process ends, its last words."""
PIPE_BYTES = 1 << 20
"""What a writer may be ahead of the reader, if the system allows it; what is more is lost."""
REST_SECONDS = 0.05
"""The reader lets lines gather: what a process writes as it dies is then left whole to another reader."""
FINISH_SECONDS = 0.5
"""What `Reader.finish` takes at most."""


class Lines:
    """Logs what a process writes line by line: the first ones of a minute, then how many more there were.

    Args:
        who: the process, as the log names it.
        seconds: the minute.
    """

    def __init__(self, who: str, seconds: float = SECONDS) -> None:
        self._who, self._seconds = who, seconds
        self._begun = b""
        self._left, self._end = LINES, 0.0
        self._held, self._last = 0, deque[str](maxlen=LAST_CHARACTERS // 50)

    @property
    def pause(self) -> float | None:
        """Seconds until `tick` has something to do; None: it has nothing."""
        if self._begun:
            return min(1.0, self._seconds)
        return max(0.0, self._end - time.monotonic()) if self._held else None

    def take(self, written: bytes) -> None:
        """Log, or count, the lines that end in what was written; a line that begins in it waits for its end."""
        *whole, self._begun = re.split(rb"[\r\n]", self._begun + written)
        self._begun = self._begun[: CHARACTERS + 1]
        for line in filter(bytes.strip, whole):
            self._note(line)

    def tick(self) -> None:
        """Log a line whose end does not come, and the number of lines held back when their minute is over."""
        self._finish_line()
        if self._held and time.monotonic() >= self._end:
            self._tell_held(CHARACTERS)

    def end(self, level: int) -> None:
        """Log what is left, the last words among it."""
        self._finish_line()
        if self._held:
            self._tell_held(LAST_CHARACTERS, level)

    def _finish_line(self) -> None:
        begun, self._begun = self._begun, b""
        if begun.strip():
            self._note(begun)

    def _note(self, line: bytes) -> None:
        now = time.monotonic()
        if now >= self._end:
            if self._held:
                self._tell_held(CHARACTERS)
            self._left, self._end = LINES, now + self._seconds
        if self._left and log.isEnabledFor(logging.WARNING):  # else they wait, as they may be last words
            self._left -= 1
            log.warning("%s: %s", self._who, printable(line))
        else:
            self._held += 1
            self._last.append(printable(line))

    def _tell_held(self, characters: int, level: int = logging.WARNING) -> None:
        last = " | ".join(self._last)
        message = "%s: ... and %d more lines of libraries, the last: %s"
        log.log(level, message, self._who, self._held, last[-characters:])
        self._held = 0
        self._last.clear()


def printable(line: bytes) -> str:
    """A line in printable ASCII, which takes no more room in the log than it has characters; its rest is cut."""
    cut = line.strip()[: CHARACTERS + 1]
    text = re.sub(rb"[^ -~]", b"?", cut).decode("ascii")
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 3] + "..."


class Reader(threading.Thread):
    """Reads a pipe until its writers are gone, or until `finish`.

    Args:
        source: the pipe's read end; this closes it.
        lines: where what is read goes.
    """

    def __init__(self, source: int, lines: Lines) -> None:
        super().__init__(name="streams", daemon=True)
        self._source, self._lines = source, lines
        self._over = threading.Event()
        self._level = logging.ERROR

    def run(self) -> None:
        """Wait for lines, without a wake-up while there are none."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        while True:
            pause = self._lines.pause
            if not poll.poll(None if pause is None else 1000 * pause):
                self._lines.tick()
                continue
            self._over.wait(REST_SECONDS)
            gone = read_all(self._source, self._lines)
            if gone or self._over.is_set():
                break
        self._lines.end(self._level)
        os.close(self._source)

    def finish(self, wake: int | None = None, died: bool = False) -> None:
        """Return when all that was written is in the log, or soon.

        Args:
            wake: the pipe's write end; None: its writers are gone.
            died: what is left are the last words of a process that nobody has ended.
        """
        if not died:
            self._level = logging.WARNING
        self._over.set()
        if wake is not None:
            with contextlib.suppress(OSError):  # it is full, or nobody reads it any more
                os.write(wake, b"\n")
        self.join(FINISH_SECONDS)


def read_all(source: int, lines: Lines) -> bool:
    """Read what is in a pipe, or a good part of it; whether its writers are gone."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(64):  # some writers never pause
            written = os.read(source, 1 << 16)
            if not written:
                return True
            lines.take(written)
    return False


def open_pipe() -> tuple[int, int]:
    """The two ends of a pipe that never keeps anybody waiting."""
    source, words = os.pipe()
    for end in (source, words):
        os.set_blocking(end, False)
    with contextlib.suppress(AttributeError, OSError):  # not on Linux; more than this user may have
        fcntl.fcntl(words, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return source, words

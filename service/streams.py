"""Standard output and error, taken away from libraries: what they write there comes to the log, within a budget.

Descriptors 1 and 2 lead into a pipe, and the log goes to a duplicate of what descriptor 2 was. The service reads its
own pipe and one of each worker, so that a worker that is killed leaves its last words to the service. The pipe of the
service is read to its end by a worker when the service dies. That needs no process more, as a reader of its own would,
and no line goes around the log, as a second stderr for crashes would. Only while there is no worker, such words are
lost.
"""

import contextlib
import ctypes
import faulthandler
import io
import logging
import os
import sys
import threading
import warnings
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, TextIO

from service.library_lines import Lines, Reader, open_pipe, read_all
from service.logs import LogStream, log_stream, set_up_logging

log = logging.getLogger(__name__)

_LINE_BUFFERED = 1  # _IOLBF of stdio.h


class Streams:
    """The guard of the service's process, from here to `close`. The log is to be set up after it.

    Args:
        who: the process, as the log names it.
    """

    def __init__(self, who: str = "service") -> None:
        for number in range(3):  # a closed one would be the next pipe's number
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        self._were = os.dup(1), os.dup(2)
        self._source, self._words = open_pipe()
        self._taken = Taken(self._words, LogStream(os.dup(2), unread=self._source))
        self._reader = Reader(self._source, Lines(who))
        self._reader.start()

    def end(self) -> None:
        """Log what is left. What libraries write from here on is lost: it is for the last moments of a process."""
        self._reader.finish(self._words)

    def close(self) -> None:
        """Log what is left, and give the streams back."""
        self.end()
        self._taken.close(*self._were)
        for descriptor in (*self._were, self._words):
            os.close(descriptor)


class Taken:
    """The streams of this process while they are not what they were, and what Python would write to them.

    Args:
        words: where descriptors 1 and 2 lead.
        log_to: where the log goes.
    """

    def __init__(self, words: int, log_to: LogStream) -> None:
        self._log_to = log_to
        self._printed = sys.stdout, sys.stderr
        self._hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
        logging.getLogger().addHandler(logging.StreamHandler(log_to))  # `set_up_logging` looks for it
        _lead(words, words)
        sys.stdout, sys.stderr = _printer(1), _printer(2)
        sys.excepthook, threading.excepthook = _on_exception, _on_thread_exception
        sys.unraisablehook, warnings.showwarning = _on_unraisable, _on_warning
        self._faults = not faulthandler.is_enabled()
        if self._faults:
            faulthandler.enable(2, all_threads=False)

    def close(self, stdout: int, stderr: int) -> None:
        """Give the streams back."""
        if self._faults:
            faulthandler.disable()
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = self._hooks
        sys.stdout, sys.stderr = self._printed
        _lead(stdout, stderr)
        root = logging.getLogger()
        for handler in root.handlers[:]:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._log_to:
                root.removeHandler(handler)
        self._log_to.close()


class Ends(NamedTuple):
    """What a worker's process gets.

    Attributes:
        words: where its descriptors 1 and 2 are to lead.
        log_to: where its log goes.
        will: the pipe of the service, which it reads when the service has died.
        form: of its log.
        level: likewise.
    """

    words: Connection
    log_to: Connection
    will: Connection
    form: str
    level: str

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The descriptors."""
        return self.words, self.log_to, self.will


class WorkerStreams:
    """The service's side of the guard in a worker; there is none where the service's own streams are not taken.

    Raises:
        OSError: too many files are open.

    Attributes:
        ends: for the worker's process; closed by `listen`.
    """

    ends: Ends | None = None
    _reader: Reader | None = None

    def __init__(self) -> None:
        stream = log_stream()
        if stream is None or stream.unread is None:
            return
        self._source, descriptor = open_pipe()
        words = Connection(descriptor, readable=False)
        try:
            log_to = Connection(os.dup(stream.fileno()), readable=False)
            will = Connection(os.dup(stream.unread), writable=False)
        except OSError:
            os.close(self._source)
            raise
        self.ends = Ends(words, log_to, will, stream.form, stream.level)

    def listen(self, who: str) -> None:
        """Log what the worker writes, until it has ended; it is started."""
        if self.ends:
            self._close_ends()
            self._reader = Reader(self._source, Lines(who))
            self._reader.start()

    def close(self, died: bool) -> None:
        """Return when what the worker wrote is in the log.

        Args:
            died: it has ended unasked; otherwise it was ended, or never started.
        """
        if self._reader:
            self._reader.finish(died=died)
        elif self.ends:
            self._close_ends()
            os.close(self._source)

    def _close_ends(self) -> None:
        for end in self.ends.connections if self.ends else ():
            end.close()
        self.ends = None


def take_in_worker(ends: Ends) -> None:
    """The guard and the log of a worker's process, to its end."""
    for end in ends.connections:  # the spawn has made them pass to programs that this process starts
        os.set_inheritable(end.fileno(), False)
    Taken(ends.words.fileno(), LogStream(os.dup(ends.log_to.fileno())))
    set_up_logging(ends.form, ends.level)


def read_will(ends: Ends) -> None:
    """Log the last words of the service; it has died."""
    lines = Lines("service")
    read_all(ends.will.fileno(), lines)
    lines.end(logging.ERROR)


class _Lossy(io.FileIO):
    """A descriptor that takes what it can: Python's own streams raise where a pipe is full."""

    def write(self, written: Any) -> int:
        """All of it, as far as callers see."""
        with contextlib.suppress(OSError):
            super().write(written)
        return memoryview(written).nbytes


def _printer(descriptor: int) -> TextIO:
    raw = _Lossy(descriptor, "wb", closefd=False)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


def _lead(stdout: int, stderr: int) -> None:
    """Lead descriptors 1 and 2 there; C's stdout gives each line at once, as it would at a terminal."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _LINE_BUFFERED, ctypes.c_size_t(0))


def _on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("The process ends by an error that nobody expected.", exc_info=(kind, error, trace))


def _on_thread_exception(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is not SystemExit:
        name = found.thread.name if found.thread else "unknown"
        error = found.exc_value or found.exc_type()
        log.error("The thread %s ended by an error.", name, exc_info=(found.exc_type, error, found.exc_traceback))


def _on_unraisable(found: "sys.UnraisableHookArgs") -> None:
    where = getattr(found.object, "__qualname__", type(found.object).__name__)
    error = found.exc_value or found.exc_type()
    reason = found.err_msg or "Exception ignored in"
    log.error("%s: %s", reason, where, exc_info=(found.exc_type, error, found.exc_traceback))


def _on_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Of `warnings.showwarning`, but in one line."""
    del file, line
    logging.getLogger("py.warnings").warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)

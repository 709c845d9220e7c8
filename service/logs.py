"""What the processes of the service write to stderr."""

import io
import json
import logging
import math
import os
import re
import time
import warnings

log = logging.getLogger(__name__)

LIBRARIES = "libraries"
"""The logger of what libraries write to stdout and stderr; `service.streams` limits how much of it there is."""
LONGEST_MESSAGE = 1000
"""Characters of a message that are written."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LogStream(io.TextIOWrapper):
    """Where the log goes while `service.streams` has descriptors 1 and 2.

    Args:
        descriptor: what descriptor 2 was; it is closed with this.
        unread: the read end of the pipe to which descriptor 2 leads, where this process reads it.

    Attributes:
        form: of the log, for the processes that this one starts.
        level: likewise.
    """

    def __init__(self, descriptor: int, unread: int | None = None) -> None:
        super().__init__(os.fdopen(descriptor, "wb"), "utf-8", "backslashreplace", line_buffering=True)
        self.unread, self.form, self.level = unread, "text", "info"


def log_stream() -> LogStream | None:
    """The one that this process has, if any."""
    streams = [getattr(handler, "stream", None) for handler in logging.getLogger().handlers]
    return next((stream for stream in streams if isinstance(stream, LogStream)), None)


class TextFormatter(logging.Formatter):
    """One line a record; only a trace, which is of a defect of ours, adds more."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        record.message = record.message[:LONGEST_MESSAGE]
        return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], super().formatMessage(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as JSON."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:LONGEST_MESSAGE],
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class Bursts:
    """Logs refused requests: the first at once, later ones in a line now and then that counts them.

    Args:
        seconds: least time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last, self._count = seconds, -math.inf, 0

    def note(self, reason: str) -> None:
        """Count a refused request, and log when it is time."""
        self._count += 1
        now = time.monotonic()
        if now - self._last >= self._seconds:
            log.warning("refused since the last such line: %d; now: %s", self._count, reason)
            self._last, self._count = now, 0


class OneOfAKind(logging.Filter):
    """Lets one warning a second through from each line of code; the next one says how many were held back.

    Clients could otherwise fill the log: what they send decides how often a warning comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno < logging.WARNING or record.name == LIBRARIES:
            return True
        place = record.pathname, record.lineno
        last, more = self._kinds.get(place, (-math.inf, 0))
        now = time.monotonic()
        if now - last < 1.0:
            self._kinds[place] = last, more + 1
            return False
        self._kinds[place] = now, 0
        if more:
            record.msg, record.args = f"{record.getMessage()} (and {more} more like it)", None
        return True


def set_up_logging(form: str, level: str) -> None:
    """Log to stderr, as `text` or `json`, from this level on; called by the front and by each worker."""
    stream = log_stream()
    if stream:
        stream.form, stream.level = form, level
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(OneOfAKind())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # odd tags in clients' files would fill the log

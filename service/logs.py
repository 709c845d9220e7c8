"""What the processes of the service write to stderr."""

import json
import logging
import math
import time
import warnings

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as JSON."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class Bursts:
    """Tells of refused requests: of the first at once, then once in a while of how many there were.

    Args:
        seconds: between two lines, at least.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last, self._count = seconds, -math.inf, 0

    def note(self, reason: str) -> None:
        """One was refused."""
        self._count += 1
        now = time.monotonic()
        if now - self._last >= self._seconds:
            log.warning("refused since the last such line: %d; now: %s", self._count, reason)
            self._last, self._count = now, 0


def set_up_logging(form: str, level: str) -> None:
    """Log to stderr, as `text` or `json`, from a level on; for the front and each of its workers."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != "Invalid HTTP request received.")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd tags of a client's file: it would write our log

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
        if record.levelno < logging.WARNING:
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
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    handler.addFilter(OneOfAKind())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # odd tags in clients' files would fill the log

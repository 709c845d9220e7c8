"""`python -m service`: serve the archive that UPSNET_MODEL names.

UPSNET_MODEL=weights/camvid_demo.pt python -m service
"""

import argparse
import json
import logging
import sys
import time
import warnings

from service import settings as settings_module
from service.app import create_app
from service.memory import settle
from service.server import make_server
from service.settings import Settings, SettingsError


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


def set_up_logging(settings: Settings) -> None:
    """Log to stderr as the settings say."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != "Invalid HTTP request received.")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd tags of a client's file: it would write our log


def main() -> int:
    """Run the service; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__.split("\n")[0])
    parser.epilog = "Example: UPSNET_PORT=9000 python -m service. Settings are environment variables: see the README."
    parser.parse_args()
    try:
        settings = settings_module.load()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    set_up_logging(settings)
    app = create_app(settings)
    server = make_server(app, settings)
    settle()
    server.run()
    return 0 if server.started and app.state.engine.failure is None else 1


if __name__ == "__main__":
    sys.exit(main())

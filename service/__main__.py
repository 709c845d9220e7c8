"""`python -m service`: serve the archive that UPSNET_MODEL names.

UPSNET_MODEL=weights/camvid_demo.pt uv run python -m service
"""

import argparse
import logging
import signal
import sys
from typing import NoReturn

if __name__ == "__main__":
    # Before the slow imports: until the server takes it, Ctrl+C ends the process without a trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from service import preflight
from service import settings as settings_module
from service.settings import Settings, SettingsError


def main() -> int:
    """Run the service until a signal ends it; the exit status where it does not get so far."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__.split("\n")[0])
    parser.epilog = "Example: UPSNET_PORT=9000 uv run python -m service. The settings are in docs/configuration.md."
    parser.parse_args()
    try:
        settings = settings_module.load()
        preflight.check(settings)
        serve(settings)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


def serve(settings: Settings) -> NoReturn:
    """Serve until a signal ends it, and end the process.

    Raises:
        SettingsError: the port was taken after the check.
    """
    # What serves is imported here: a wrong setting is told before, in a third of the time.
    from service.app import create_app
    from service.logs import set_up_logging
    from service.memory import settle
    from service.server import leave, make_server
    from service.streams import Streams

    streams = Streams()
    set_up_logging(settings.log_format, settings.log_level)
    if unknown := settings_module.unknown_names():
        logging.getLogger("service").warning(unknown)
    app = create_app(settings)
    server = make_server(app, settings)
    settle()
    try:
        server.run()
    except SystemExit as error:  # uvicorn has logged why
        streams.close()  # the line that tells it is ours
        raise SettingsError(preflight.why_not_listening(settings)) from error
    streams.end()
    leave(0 if server.started and not app.state.engine.failed else 1)


if __name__ == "__main__":
    sys.exit(main())

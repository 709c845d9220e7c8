"""`python -m service`: serve the archive that UPSNET_MODEL names.

UPSNET_MODEL=weights/camvid_demo.pt uv run python -m service
"""

import argparse
import sys

from service import settings as settings_module
from service.app import create_app
from service.logs import set_up_logging
from service.memory import settle
from service.server import leave, make_server
from service.settings import SettingsError
from service.streams import Streams


def main() -> int:
    """Run the service until a signal ends it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__.split("\n")[0])
    parser.epilog = "Example: UPSNET_PORT=9000 uv run python -m service. The settings are in docs/configuration.md."
    parser.parse_args()
    try:
        settings = settings_module.load()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    streams = Streams()
    set_up_logging(settings.log_format, settings.log_level)
    app = create_app(settings)
    server = make_server(app, settings)
    settle()
    try:
        server.run()
    except SystemExit:  # uvicorn has logged why
        streams.close()
        place = f"{settings.host}:{settings.port}"
        print(f"error: cannot listen on {place}. Set UPSNET_PORT to a free port.", file=sys.stderr)  # noqa: T201
        return 1
    streams.end()
    return 0 if server.started and not app.state.engine.failed else 1


if __name__ == "__main__":
    leave(main())

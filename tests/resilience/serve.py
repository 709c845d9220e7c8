"""The real service on a port, its workers emulated: `python -m tests.resilience.serve --port 8123`."""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from service import app as application
from service import settings as settings_module
from service.memory import settle
from service.server import leave, make_server
from tests.service.emulated import Emulated
from tests.service.noise import Noisy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-queue", type=int, default=64)
    parser.add_argument("--base-ms", type=float, default=20.0, help="of each batch, whatever its size")
    parser.add_argument("--noisy", action="store_true", help="workers whose libraries write to stdout and stderr")
    arguments = parser.parse_args()
    with tempfile.NamedTemporaryFile(suffix=".pt") as archive:
        Path(archive.name).write_bytes(b"emulated")
        settings = settings_module.load().model_copy(
            update={
                "model": Path(archive.name),
                "port": arguments.port,
                "max_batch_size": 8,
                "max_queue": arguments.max_queue,
                "warmup_sizes": (),
            }
        )
        kind = Noisy if arguments.noisy else Emulated
        application.load_predictor = partial(emulated, kind, arguments.base_ms)  # type: ignore[assignment]
        app = application.create_app(settings)
        settle()
        make_server(app, settings).run()
    leave(0)


def emulated(kind: type[Emulated], base_ms: float, *_: object) -> Emulated:
    return kind(base_ms=base_ms, image_ms=5.0)


if __name__ == "__main__":
    main()

"""The real service on a port, its workers emulated: `python -m tests.resilience.serve --port 8123`."""

import argparse
import tempfile
import time
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
    parser.add_argument("--load-seconds", type=float, default=0.0, help="of each start of a worker")
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
        factory = partial(emulated, kind, arguments.base_ms, arguments.load_seconds)
        application.load_predictor = factory  # type: ignore[assignment]
        application.import_predictor = nothing  # torch is not needed
        app = application.create_app(settings)
        settle()
        make_server(app, settings).run()
    leave(0)


def nothing(_: int) -> None:
    pass


def emulated(kind: type[Emulated], base_ms: float, load_seconds: float, *_: object) -> Emulated:
    time.sleep(load_seconds)
    return kind(base_ms=base_ms, image_ms=5.0)


if __name__ == "__main__":
    main()

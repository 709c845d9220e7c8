"""The service as a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.paths import ROOT

PYTHON = (sys.executable, "-m", "service")


@contextlib.contextmanager
def started(
    cwd: Path = ROOT, command: Sequence[str] = PYTHON, environment: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """The address, such as `127.0.0.1:41234`, of a service that is ready; it has to end cleanly."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"UPSNET_PORT": str(port), "UPSNET_DEVICE": "cpu"}
    service = subprocess.Popen(command, cwd=cwd, env={**environment, **settings})
    try:
        wait_until_ready(service, f"http://127.0.0.1:{port}/health/ready")
        yield f"127.0.0.1:{port}"
    finally:
        service.terminate()
        assert service.wait(30) == 0


def wait_until_ready(service: subprocess.Popen[bytes], url: str) -> None:
    """Return when the service takes work; five minutes are for hosts that do much else."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert service.poll() is None
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the service is not ready after five minutes")

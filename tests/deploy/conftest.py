"""Where the suite works: a folder of its own, or UPSNET_DEPLOY_ROOT, which is kept and makes a second run quick."""

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import Docker, cpu_image, engine


@pytest.fixture(scope="session")
def workplace() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it starts a Docker engine and makes file systems")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, most), most))
    kept = os.environ.get("UPSNET_DEPLOY_ROOT")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="upsnet-deploy-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def docker(workplace: Path) -> Iterator[Docker]:
    with engine(workplace) as running:
        yield running


@pytest.fixture(scope="session")
def image(docker: Docker, workplace: Path) -> str:
    return cpu_image(docker, workplace)

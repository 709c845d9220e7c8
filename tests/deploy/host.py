"""What the suite takes from Debian: programs on this host, and root file systems for chroots and images."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.paths import ROOT

REPOSITORY = ROOT
MIRROR = "http://deb.debian.org/debian"


def run(command: Sequence[str | Path], **options: object) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return str(done.stdout)


def install(**packages: str) -> None:
    """Debian packages by the program that each brings, where it is not here yet."""
    missing = [package for program, package in packages.items() if shutil.which(program.replace("_", "-")) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"needs root on Debian, or {', '.join(missing)} installed")
    run(["apt-get", "update", "-qq"])
    run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def root_file_system(archive: Path, suite: str, packages: str, variant: str = "minbase") -> Path:
    """A tar file of a small Debian with some packages; made once an archive."""
    if not archive.exists():
        install(mmdebstrap="mmdebstrap")
        part = archive.with_suffix(".part.tar")
        old_lists = '--aptopt=Acquire::Check-Valid-Until "false"'  # a mirror that lags will do here
        run(["mmdebstrap", f"--variant={variant}", old_lists, f"--include={packages}", suite, part, MIRROR])
        part.rename(archive)
    return archive

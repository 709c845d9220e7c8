"""The default suite with the oldest and with the newest versions that the project supports, on the last commit."""

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.paths import ROOT, SHARED

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = {
    requirement.name: requirement.specifier
    for requirement in map(Requirement, PROJECT["tool"]["uv"]["constraint-dependencies"])
}
TORCH = ("torch", "torchvision", "triton")
OLDEST = {"torch": "2.11.0", "torchvision": "0.26.0", "triton": "3.6.0"}
PAIRS = {"3.12": OLDEST, "3.13": {name: str(PINS[name]).removeprefix("==") for name in TORCH}}
TORCH_CHOOSES = {*TORCH, "setuptools"}
"""Packages that a torch wants in versions of its own."""

PRINT_VERSIONS = (
    "import platform; from importlib.metadata import version; "
    f"print('python', platform.python_version(), *(f'{{name}} {{version(name)}}' for name in {(*TORCH, 'numpy')}))"
)


def requirements(versions: dict[str, str], folder: Path) -> Path:
    """A file that names what serving and the tests need, in the versions that are pinned but for torch's."""
    pins = [f"{name}{pin}" for name, pin in PINS.items() if name not in TORCH_CHOOSES]
    (folder / "pins.txt").write_text("\n".join(pins))
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    exact = [f"{name}=={version}" for name, version in versions.items()]
    file = folder / "requirements.txt"
    file.write_text("\n".join(["-c pins.txt", *wanted, *exact]))
    return file


def environment(python: str, folder: Path) -> dict[str, str]:
    """This one without what belongs to the run that started it; pyenv finds only versions that are named."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "UV_", "VIRTUAL_"))}
    known.pop("TRITON_INTERPRET", None)  # which tests/conftest.py sets
    known["TMPDIR"] = str(folder)
    if SHARED.is_dir():
        known["UPSNET_SHARED"] = str(SHARED.resolve())
    if shutil.which("pyenv"):
        fitting = [name for name in output("pyenv", "versions", "--bare") if name.startswith(f"{python}.")]
        known["PYENV_VERSION"] = ":".join([*fitting[-1:], *output("pyenv", "version-name")])  # uv may be of the latter
    return known


def output(*words: str) -> list[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def told(words: list[str | Path], cwd: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The status of a command and the last line that it wrote; every line is passed on."""
    last = ""
    with subprocess.Popen(words, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


@pytest.fixture(scope="module")
def results() -> list[str]:
    """A line for each pair of versions that has run."""
    return []


@pytest.mark.versions
@pytest.mark.parametrize("python", PAIRS)
def test_the_suite_passes(python: str, results: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled(), tempfile.TemporaryDirectory(prefix="upsnet-") as name:
        folder = Path(name)
        subprocess.run(["git", "clone", "--quiet", ROOT, folder / "checkout"], check=True)
        run = ["uv", "run", "--quiet", "--isolated", "--no-project", "--python", python]
        run += ["--with-requirements", str(requirements(PAIRS[python], folder)), "python"]
        surroundings = environment(python, folder)
        status, versions = told([*run, "-c", PRINT_VERSIONS], folder / "checkout", surroundings)
        assert status == 0
        assert re.match(rf"python {re.escape(python)}\.", versions)
        assert set(re.findall(r"(\w+) ([\d.]+)", versions)) >= set(PAIRS[python].items())
        status, counts = told([*run, "-m", "pytest", "-q"], folder / "checkout", surroundings)
        results.append(f"{versions}: {counts}")
        print("\n" + "\n".join(results), flush=True)
    assert status == 0, results[-1]

"""What serving installs is pinned: with a build of yesterday, tomorrow's image holds the same versions."""

import re
import tomllib
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement

import service
from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = {
    requirement.name: requirement for requirement in map(Requirement, PROJECT["tool"]["uv"]["constraint-dependencies"])
}


def wanted(requirement: Requirement, found: set[str]) -> None:
    """Collect the names of what a requirement brings here; of torch's CUDA packages torch names the versions."""
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    if name in found or name.startswith(("nvidia-", "cuda-")):
        return
    found.add(name)
    for each in map(Requirement, distribution(name).requires or []):
        extras = requirement.extras | {""}
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
            wanted(each, found)


def test_everything_that_serving_installs_is_pinned() -> None:
    found: set[str] = set()
    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        wanted(requirement, found)
    assert {"fastapi", "torch", "starlette", "pydantic-core"} <= found
    assert found <= set(PINS)


@pytest.mark.ray
def test_everything_that_ray_adds_is_pinned() -> None:
    found: set[str] = set()
    for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"]["ray"]):
        wanted(requirement, found)
    assert {"ray", "pyarrow", "grpcio"} <= found
    assert found <= set(PINS)


def test_the_project_and_the_service_name_one_version() -> None:
    assert PROJECT["project"]["version"] == service.__version__


def test_a_pin_is_one_version() -> None:
    assert [str(pin) for pin in PINS.values() if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []

"""The tests mirror the product: one test file a module, at the same place under tests/."""

from pathlib import Path

import pytest

from tests.paths import ROOT

MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("service", "model")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)


def mirror_of(module: Path) -> Path:
    """Where the tests of a module are."""
    return Path("tests") / module.parent / f"test_{module.stem.strip('_')}.py"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_module_has_a_test_file(module: Path) -> None:
    assert (ROOT / mirror_of(module)).is_file()


def test_each_test_file_has_a_module() -> None:
    expected = {mirror_of(module) for module in MODULES}
    found = {
        path.relative_to(ROOT) for name in ("service", "model") for path in (ROOT / "tests" / name).rglob("test_*.py")
    }
    assert found <= expected

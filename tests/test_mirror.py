"""The tests mirror the product: a module has a test file, at the same place under tests/, and the other way round."""

import re
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


def test_there_are_modules() -> None:
    assert len(MODULES) > 80


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_module_has_tests(module: Path) -> None:
    assert re.search(r"^(async )?def test_", (ROOT / mirror_of(module)).read_text(encoding="utf-8"), re.MULTILINE)


def test_each_test_file_has_a_module() -> None:
    """Or is the second of one, for a module with many tests: `test_connection_sockets.py`."""
    expected = {mirror_of(module) for module in MODULES}
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path.relative_to(ROOT / "tests").parts[0] in ("service", "model"):
            first = path.with_stem(path.stem.rpartition("_")[0])
            assert {path.relative_to(ROOT), first.relative_to(ROOT)} & expected, path

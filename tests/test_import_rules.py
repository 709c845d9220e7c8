"""The contract `only` finds what no entry allows, and nothing else."""

import re

import pytest
from grimp import ImportGraph

from tests.import_rules import Only
from tests.paths import ROOT


@pytest.fixture
def graph() -> ImportGraph:
    graph = ImportGraph()
    for importer, imported in [("house.room", "house.door"), ("house.room", "garden.tree"), ("house.room", "json")]:
        for module in ("house", importer, imported):
            graph.add_module(module)
        graph.add_import(importer=importer, imported=imported, line_number=7, line_contents="import it")
    return graph


def broken(graph: ImportGraph, **options: object) -> list[tuple[str, str, list[int]]]:
    contract = Only(name="rule", session_options={"root_packages": ["house"]}, contract_options=options)
    check = contract.check(graph, verbose=False)
    assert check.kept == (not check.metadata["broken"])
    return check.metadata["broken"]


def test_a_package_imports_itself_the_standard_library_and_what_is_named(graph: ImportGraph) -> None:
    assert broken(graph, source_modules=["house"], may_import=["garden"]) == []


def test_what_no_entry_names_is_found_with_its_line(graph: ImportGraph) -> None:
    assert broken(graph, source_modules=["house"], may_import=["garden.bush"]) == [("house.room", "garden.tree", [7])]


def test_a_name_that_only_begins_alike_is_another(graph: ImportGraph) -> None:
    assert broken(graph, source_modules=["house"], may_import=["gard"])


def test_only_the_packages_asked_for_are_looked_at(graph: ImportGraph) -> None:
    assert broken(graph, source_modules=["house"], may_import=[], of=["street"]) == []


@pytest.mark.parametrize(
    "options", [{"source_modules": ["hose"]}, {"source_modules": ["house"], "except_modules": ["x"]}]
)
def test_a_rule_about_nothing_is_an_error(graph: ImportGraph, options: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="do not exist"):
        broken(graph, may_import=[], **options)


def test_an_excepted_module_has_a_rule_of_its_own(graph: ImportGraph) -> None:
    assert broken(graph, source_modules=["house"], may_import=[], except_modules=["house.room"]) == []


def test_torch_jit_is_named_where_archives_are_made_and_in_the_marks_of_exported_methods() -> None:
    named = {
        str(path.relative_to(ROOT)): set(re.findall(r"torch\.jit\.\w+", path.read_text(encoding="utf-8")))
        for package in ("service", "model")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {path for path, names in named.items() if names - {"torch.jit.export"}} == {"model/archive.py"}
    assert {path for path, names in named.items() if names} == {"model/archive.py", "model/network/upsnet.py"}

"""docs/network.md explains what the code cites, and names code that is there."""

import ast
import re
from pathlib import Path

import pytest

from tests.pages import NAMES, ROOT, read

PAGE = "docs/network.md"
CODE = re.compile(r"`((?:model|service|tests)/[\w/]+\.py)`((?:[:,] `[\w.]+`)*)")
CITATION = re.compile(r"([A-Z]\w+ (?:et al\.|& [A-Z]\w+) \d{4})(?:, section (\d(?:\.\d)*))?")
SECTION = re.compile(r"section (\d(?:\.\d)*)")


def rows(first: str) -> dict[str, str]:
    """The rows of the page's tables whose first cell matches: that cell -> the rest of the row."""
    return dict(re.findall(rf"^\| ({first}) \| (.*) \|$", read(PAGE), re.MULTILINE))


QUIRKS = rows(r"Q\d+")
PAPERS = rows(r"[A-Z][\w.& ]+ \d{4}")


def sources(*folders: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]


def defined(tree: ast.Module) -> set[str]:
    """Functions and classes of a module, and methods as `Class.method`."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds)]
    methods = {f"{node.name}.{part.name}" for node in top for part in node.body if isinstance(part, kinds)}
    return {node.name for node in top} | methods


def named_code(text: str) -> list[tuple[str, list[str]]]:
    """Files that a text names, each with the names that follow it."""
    return [(path, re.findall(r"`([\w.]+)`", names)) for path, names in CODE.findall(text)]


def test_quirks_on_the_page_are_those_of_the_code() -> None:
    cited = {quirk for source in sources("model", "tests") for quirk in re.findall(r"\bQ\d+\b", source)}
    assert cited == set(QUIRKS)


@pytest.mark.parametrize("name", NAMES)
def test_quirks_of_other_pages_are_on_the_page(name: str) -> None:
    assert set(re.findall(r"\bQ\d+\b", read(name))) <= set(QUIRKS)


@pytest.mark.parametrize("quirk", QUIRKS)
def test_files_of_a_quirk_cite_it(quirk: str) -> None:
    files = [path for path, _ in named_code(QUIRKS[quirk])]
    assert files
    assert [path for path in files if not re.search(rf"\b{quirk}\b", read(path))] == []


def test_code_that_the_page_names_is_there() -> None:
    named = named_code(read(PAGE))
    assert len(named) > 30
    for path, names in named:
        assert Path(ROOT, path).is_file(), path
        assert set(names) <= defined(ast.parse(read(path))), path


def test_named_code_and_definitions_are_read() -> None:
    assert named_code("`model/a.py`: `f`, `C.m`; `model/b.py`") == [("model/a.py", ["f", "C.m"]), ("model/b.py", [])]
    assert defined(ast.parse("class C:\n    def m(self): ...\ndef f(): ...")) == {"C", "C.m", "f"}


def test_papers_on_the_page_are_those_that_the_code_cites() -> None:
    cited = [CITATION.findall(" ".join(source.split())) for source in sources("model")]
    assert {paper for source in cited for paper, _ in source} == set(PAPERS)
    sections = {(paper, section) for source in cited for paper, section in source if section}
    assert sections == {(paper, section) for paper, row in PAPERS.items() for section in SECTION.findall(row)}


def test_papers_have_a_link() -> None:
    assert all("](https://arxiv.org/abs/" in row for row in PAPERS.values())

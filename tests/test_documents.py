"""What the documents say of the code is what the code has: settings, metrics, error codes, options, files, links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service import errors
from service.http.forms import MEDIA_TYPES
from service.metrics import Metrics
from service.settings import Settings
from tests.pages import NAMES, anchors, blocks, read
from tests.paths import ROOT

CONFIGURATION = read("docs/configuration.md")
LANGUAGES = {"bash", "python", "js", "go", "java", "json", "yaml", "nginx", "text"}
ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \|", re.MULTILINE)
COMMAND = re.compile(r"-m ((?:service|model)[\w.]*)((?: [^`\n#&|]*)?)")
HELP = """
import runpy, sys
for name in sys.argv[1:]:
    print("\\0" + name)
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code:
            raise
"""


def test_settings_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `(UPSNET_\w+)` \|.*\| ([^|]*) \|$", CONFIGURATION, re.MULTILINE))
    assert set(rows) == {f"UPSNET_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, (int, str)):
            assert rows[f"UPSNET_{name.upper()}"] == str(field.default)


def test_metrics_are_those_of_the_code() -> None:
    documented = set(re.findall(r"^\| `(upsnet_\w+)` \|", CONFIGURATION, re.MULTILINE))
    families = Metrics().registry.collect()
    suffix = {"counter": "_total", "info": "_info"}
    assert documented == {family.name + suffix.get(family.type, "") for family in families}


def kinds(error: type[errors.ServiceError]) -> set[tuple[int, str]]:
    """Status and code of an error and of those that inherit from it."""
    own = {(status, code) for status, (code, _) in getattr(error, "_KINDS", {}).items()}
    if not error.__subclasses__() and not own:
        own = {(error.status, error.code)}
    return own.union(*map(kinds, error.__subclasses__()))


def test_error_codes_are_those_of_the_code() -> None:
    service, nginx = read("docs/errors.md").split("\n## Errors of nginx\n")
    assert {(int(status), code) for status, code in ROW.findall(service)} == kinds(errors.ServiceError)
    configured = re.findall(r'"status":(\d+),"code":"(\w+)"', read("docker/nginx.conf"))
    assert set(ROW.findall(nginx)) == set(configured)


def test_error_codes_are_sorted_and_named_once() -> None:
    for table in read("docs/errors.md").split("\n## "):
        rows = [int(status) for status, _ in ROW.findall(table)]
        assert rows == sorted(rows)
        assert len(set(ROW.findall(table))) == len(rows)


def test_forms_of_an_answer_are_those_of_the_code() -> None:
    table = read("docs/http.md").split("\n| `Accept` | answer |\n")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `([\w.+-]+/[\w.+-]+)`", table, re.MULTILINE)) == MEDIA_TYPES


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of every command that a page names, by its help."""
    named = {module for name in NAMES for module, _ in COMMAND.findall(read(name))}
    command = [sys.executable, "-c", HELP, *sorted(named)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    texts = dict(part.split("\n", 1) for part in done.stdout.split("\0")[1:])
    return {module: set(re.findall(r"--[a-z][\w-]*", text)) for module, text in texts.items()}


@pytest.mark.parametrize("name", NAMES)
def test_commands_have_the_options_that_are_named(name: str, options: dict[str, set[str]]) -> None:
    text = read(name).replace("\\\n", " ")
    for module, arguments in COMMAND.findall(text):
        assert set(re.findall(r"(?<=\s)--[a-z][\w-]*", arguments)) <= options[module], f"{module}{arguments}"


def test_options_in_the_table_of_training_exist(options: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| `(--[a-z][\w-]*)", read("docs/training.md"), re.MULTILINE)
    assert len(rows) >= 8
    assert set(rows) <= options["model.training"]


@pytest.mark.parametrize("name", NAMES)
def test_commands_begin_with_uv_run(name: str) -> None:
    """Without it a fresh clone has no packages; a block may activate the environment instead."""
    for block in blocks(name):
        lines = block.text.splitlines() if "bin/activate" not in block.text else []
        assert [line for line in lines if "python -m" in line and "uv run" not in line] == []
    spans = re.findall(r"`([^`\n]*python -m (?:service|model)[^`\n]*)`", read(name))
    assert [span for span in spans if "uv run" not in span] == []


@pytest.mark.parametrize("name", NAMES)
def test_blocks_say_their_language(name: str) -> None:
    assert {block.language for block in blocks(name)} <= LANGUAGES


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", read(name)):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    """`service/app.py` and the like, and what the tree in the README names below a folder."""
    named = re.findall(r"`((?:service|model|tests|docker|docs|\.ci)/[\w./-]+)`", read(name))
    folder = ""
    for line in (block.text for block in blocks(name) if block.language == "text"):
        for row in line.splitlines():
            paths = re.findall(r"(?<!\S)(\w+(?:/|\.py))(?!\S)", row)
            folder = paths.pop(0) if not row.startswith(" ") and paths else folder
            named += [folder] * bool(folder)
            named += [folder + path if row.startswith(" ") else path for path in paths]
    assert [path for path in named if not Path(ROOT, path).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_compose_files_that_are_named_exist(name: str) -> None:
    for file in re.findall(r"docker-compose[\w.]*\.yml", read(name)):
        assert (ROOT / file).is_file(), file

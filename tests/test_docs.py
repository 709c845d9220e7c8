"""The documents' code runs as printed, in a copy of the repository and without a network; printed answers are true."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pages import NAMES, Block, blocks
from tests.paths import ROOT
from tests.started import started

TOOLS = {"bash": ["bash", "uv", "curl"], "python": ["uv"], "js": ["node"], "go": ["go"], "java": ["java"]}
FILES = {"python": "example.py", "js": "example.mjs", "go": "main.go", "java": "ReadPng.java"}
COMMANDS = {
    "python": ["uv", "run", "python", "example.py"],
    "js": ["node", "example.mjs"],
    "go": ["go", "run", "main.go"],
    "java": ["java", "ReadPng.java"],
}
SERVE = re.compile(r"uv run python -m service\n")


def to_run(name: str, language: str) -> list[Block]:
    """What a page says to run, but for blocks that need what a clone has not, and the start of the service."""
    ours = [block for block in blocks(name) if block.language == language and not block.needs]
    return [block for block in ours if not SERVE.fullmatch(block.text)]


CASES = [(name, language) for name in NAMES for language in TOOLS if to_run(name, language)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, without what git ignores."""
    folder = tmp_path_factory.mktemp("docs") / "upsnet-service"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info", "uv.lock")
    return Path(shutil.copytree(ROOT, folder, ignore=ignore))


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """As a user has it, but that uv takes the packages that run these tests and asks no index."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UPSNET_", "VIRTUAL_ENV"))}
    return {**kept, "UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1", "UV_OFFLINE": "1"}


@pytest.fixture(scope="module")
def address(clone: Path, environment: dict[str, str]) -> Iterator[str]:
    """The service as the README starts it, on a free port."""
    if missing := [tool for tool in TOOLS["bash"] if not shutil.which(tool)]:
        pytest.skip(f"no {', '.join(missing)}")
    first = next(block for block in blocks("README.md") if block.language == "bash")
    assert SERVE.fullmatch(first.text)
    with started(clone, ["bash", "-c", f"exec {first.text}"], environment) as address:
        yield address


@pytest.mark.parametrize(("name", "language"), CASES, ids=[" ".join(case) for case in CASES])
def test_code_runs_as_printed(name: str, language: str, clone: Path, address: str, environment: dict[str, str]) -> None:
    if missing := [tool for tool in TOOLS[language] if not shutil.which(tool)]:
        pytest.skip(f"no {', '.join(missing)}")
    for block in to_run(name, language):
        text = re.sub("(localhost|127.0.0.1):8000", address, block.text)
        command = COMMANDS.get(language, ["bash", "-euo", "pipefail", "-c", text])
        if language in FILES:
            (clone / FILES[language]).write_text(text, encoding="utf-8")
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        check_printed(printed_after(name, block), block, done.stdout, clone)


def printed_after(name: str, block: Block) -> Block | None:
    """The answer that the page prints after a block: JSON with a request id, or the text that a program prints."""
    everything = blocks(name)
    following = everything[everything.index(block) + 1 :][:1]
    for one in following:
        if "request_id" in one.text if one.language == "json" else one.language == "text" and block.language != "bash":
            return one
    return None


def check_printed(printed: Block | None, block: Block, output: str, clone: Path) -> None:
    """The output, or the file that it was sent to, is what the page prints."""
    if printed is None:
        return
    if printed.language == "json":
        file = re.search(r"> (\S+\.json)$", block.text, re.MULTILINE)
        found = json.loads((clone / file[1]).read_text(encoding="utf-8") if file else output)
        assert alike(json.loads(printed.text), found), found
    else:
        assert alike(words(printed.text), words(output)), output


def words(text: str) -> list[str | float]:
    """Words and numbers, also where they stand without a space: `{0=1996` is `{`, 0, `=` and 1996."""
    found = re.findall(r"\d+(?:\.\d+)?|[^\s\d]+", text)
    return [float(word) if word[0].isdigit() else word for word in found]


def alike(printed: Any, found: Any) -> bool:
    """Equal, but for what the page cuts short with an ellipsis; another CPU may decide a few pixels otherwise."""
    if isinstance(printed, dict):
        return printed.keys() == found.keys() and all(alike(printed[key], found[key]) for key in printed)
    if isinstance(printed, list):
        return len(printed) == len(found) and all(map(alike, printed, found))
    if isinstance(printed, str):
        return bool(found == printed or (printed.endswith("…") and found.startswith(printed[:-1])))
    if isinstance(printed, float):
        return bool(found == pytest.approx(printed, rel=0.02, abs=0.01))
    if isinstance(printed, int) and not isinstance(printed, bool):
        return bool(found == pytest.approx(printed, rel=0.02, abs=3))
    return bool(printed == found)


def test_printed_answers_are_compared() -> None:
    assert alike({"area": 1000, "png": "iVB…", "on": True}, {"area": 1010, "png": "iVBOR", "on": True})
    assert not alike({"area": 1000}, {"area": 1100})
    assert not alike({"area": 1000}, {"area": 1000, "score": 1.0})
    assert not alike(["sky"], ["tree"])
    assert not alike({"png": "iVB…"}, {"png": "GIF"})
    assert alike(words("{0=1000, 1=20}\nsky"), words("{0=1010, 1=20} sky"))
    assert not alike(words("{0=1000}"), words("{0=1100}"))
    assert not alike(words("sky 0.93"), words("tree 0.93"))


@pytest.mark.browser
def test_the_browser_reads_ids_as_printed(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `uv run --with playwright pytest`")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium: `apt-get install chromium`")
    block = next(one for one in blocks("docs/reading-png.md") if one.language == "js")
    photo = (ROOT / "service/static/examples/china.jpg").read_bytes()
    request = urllib.request.Request(f"http://{address}/panoptic", photo)
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    count = "const count = {}; for (const id of await readIds(answer)) count[id] = (count[id] ?? 0) + 1; return count;"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://{address}/")
        areas = page.evaluate(f"async (answer) => {{ {block.text}\n {count} }}", answer)
        browser.close()
    wanted = {str(segment["id"]): segment["area"] for segment in answer["segments_info"]}
    assert areas == {"0": answer["void_area"], **wanted}

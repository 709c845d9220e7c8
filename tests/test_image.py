"""The image holds what serving needs: the service starts from the files that the Docker build gets, and answers."""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.paths import EXAMPLES, ROOT
from tests.started import started

RULES = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def is_sent(path: str) -> bool:
    """Whether a file goes to the Docker build: the last rule that matches it, or a folder above it, decides."""
    sent = True
    for rule in RULES:
        pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(/.*)?", path):
            sent = rule.startswith("!")
    return sent


def test_the_last_rule_that_matches_decides() -> None:
    assert is_sent("service/app.py")
    assert is_sent("model/interface/codec.py")
    assert not is_sent("service/benchmark/client.py")
    assert not is_sent("model/training/loop.py")
    assert not is_sent("README.md")
    assert not is_sent("model/__pycache__/ops.pyc")


def test_the_service_answers_from_the_files_of_the_image_alone(tmp_path: Path) -> None:
    files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    sent = [name for name in files if is_sent(name)]
    for name in sent:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert {name.split("/")[0] for name in sent} == {"model", "pyproject.toml", "service", "weights"}
    with started(tmp_path, environment={**os.environ, "PYTHONPATH": ""}) as address:
        photo = (EXAMPLES / "coffee_small.jpg").read_bytes()
        request = urllib.request.Request(f"http://{address}/panoptic?view=overlay", photo)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["segments_info"]
        for page in ("/", "/docs", "/openapi.json", "/metrics"):
            with urllib.request.urlopen(f"http://{address}{page}", timeout=10) as answer:
                assert answer.status == 200

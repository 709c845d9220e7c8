"""The command without the extra `ray`."""

import subprocess
import sys

import pytest

from service.ray_serve.__main__ import main
from tests.paths import ROOT


def test_a_missing_extra_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["ray_serve"])
    assert main() == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: this needs the extra `ray` (")
    assert said.err.endswith("). Install it with `uv sync --extra ray`.\n")
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_help_needs_no_ray() -> None:
    program = "import sys; sys.modules['ray'] = None; sys.argv = ['ray_serve', '--help']; "
    program += "import runpy; runpy.run_module('service.ray_serve', run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert "ray start --head" in run.stdout
    assert "--max-replicas" in run.stdout

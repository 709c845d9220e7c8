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


@pytest.mark.parametrize("most", ["0", "-1", "1.5", "many", ""])
def test_a_number_of_replicas_that_makes_no_sense_is_bad_usage(
    most: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ray_serve", "--max-replicas", most])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert f"--max-replicas: {most!r}; expected a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "http", "error: UPSNET_PORT='http': "),
        ("MODEL", "README.md", "error: UPSNET_MODEL: README.md is not an archive"),
        ("WARMUP_SIZES", "70000x5", "error: UPSNET_WARMUP_SIZES: 70000x5 has a side over 65535"),
    ],
)
def test_a_wrong_setting_is_one_line_before_ray_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, told: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["ray_serve"])
    monkeypatch.setenv(f"UPSNET_{name}", value)
    monkeypatch.chdir(ROOT)
    assert main() == 1
    said = capsys.readouterr()
    assert said.err.startswith(told)
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_the_devices_and_addresses_of_this_host_do_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cluster's hosts are others."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["ray_serve"])
    monkeypatch.chdir(ROOT)
    for name, value in {"DEVICE": "cuda:900", "HOST": "192.0.2.1", "PROT": "1"}.items():
        monkeypatch.setenv(f"UPSNET_{name}", value)
    assert main() == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: No settings, so they change nothing: UPSNET_PROT (did you mean UPSNET_PORT?)")
    assert error.startswith("error: this needs the extra `ray`")

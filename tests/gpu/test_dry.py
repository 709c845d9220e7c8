"""`python -m tests.gpu` runs without a GPU; what crashes, hangs, differs or falls short is told."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.gpu import __main__ as command
from tests.gpu import kernels, network
from tests.gpu.measure import Bench
from tests.gpu.rows import LIMITS, Row, table, verdict
from tests.gpu.sections import Outcome, run_process
from tests.paths import ROOT

NEED_A_DEVICE = ("tests that need a device", "waits of the host", "service at 64", "demo archive, service")


def test_every_section_runs_without_a_device(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = [sys.executable, "-m", "tests.gpu", "--dry", "--json", str(out)]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    figures = json.loads(out.read_text())
    assert run.returncode == 0, (run.stdout[-3000:], figures["processes"])
    assert [process["status"] for process in figures["processes"].values()] == ["ran", "ran"]
    assert list(dict.fromkeys(row["section"] for row in figures["rows"])) == list(command.SECTIONS)
    assert not [row for row in figures["rows"] if row["failed"] or row["verdict"]]
    names = [row["name"] for row in figures["rows"]]
    missing = [name for name in LIMITS if name.replace("batch 8", "batch 2") not in names]
    assert all(name.startswith((*NEED_A_DEVICE, "transformers")) for name in missing), missing


def run_python(code: str, limit: float) -> Outcome:
    return run_process("x", [sys.executable, "-c", code], {}, limit, print)


def test_a_section_that_crashes_keeps_its_rows() -> None:
    row = Row("copy", 2.5, "TB/s", section="facts")
    code = f"print({row.line()!r}, flush=True); print('last words', flush=True); import os; os.abort()"
    outcome = run_python(code, 30)
    assert (outcome.rows, outcome.status) == ([row], "ended with status -6")
    assert "last words" in outcome.told


def test_a_section_that_hangs_ends_with_its_children() -> None:
    start = time.monotonic()
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    assert run_python(code, 1.5).status.startswith("over its")
    assert time.monotonic() - start < 20
    assert run_python(code, 0.5).status == "not run: the time was over"


def test_a_part_that_fails_is_a_row_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Bench) -> None:
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(network, "PARTS", (broken, lambda _: [Row("rate", 1.0)]))
    command.print_rows("network", Bench(dry=True))
    first, second = (json.loads(line.removeprefix("row ")) for line in capsys.readouterr().out.splitlines())
    assert (first["name"], first["failed"], first["note"]) == ("broken", True, "RuntimeError: illegal memory access")
    assert (second["name"], second["section"]) == ("rate", "network")


@pytest.mark.parametrize(
    ("name", "figure", "told"),
    [
        ("images/s at batch 8", 199.0, "missed"),
        ("images/s at batch 8", 200.0, "met"),
        ("images/s at batch 8", 600.0, "as aimed"),
        ("latency at batch 1, p50", 7.1, "missed"),
        ("latency at batch 1, p50", 1.9, "as aimed"),
        ("semantic head, batch 1", 9.0, "met"),  # only an aim
        ("memory reserved", 9.0, ""),
    ],
)
def test_figures_are_held_to_their_limits(name: str, figure: float, told: str) -> None:
    assert verdict(Row(name, figure), dry=False) == told
    assert verdict(Row(name, figure), dry=True) == ""


def test_a_figure_that_falls_short_or_is_missing_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {"network": Outcome(rows=[Row("images/s at batch 8", 150.0, section="network")])}
    monkeypatch.setattr(command, "run_all", lambda *_: outcomes)
    monkeypatch.setattr(command, "has_device", lambda: True)
    assert command.main(["--only", "network"]) == 1
    assert "network: images/s at batch 8: missed" in capsys.readouterr().out
    assert command.main(["--only", "network", "--dry"]) == 0  # not judged
    outcomes["network"] = Outcome(status="ended with status -11")
    assert command.main(["--dry"]) == 1


def test_the_table_has_the_limits() -> None:
    row = Row("latency at batch 1, p50", 6.54321, "ms", "100 calls", section="network")
    assert list(table([row], dry=False))[-1] == (
        "| network | latency at batch 1, p50 | 6.543 | ms | 7 | 1.9 | met; 100 calls |"
    )


def test_a_wrong_kernel_is_told() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from model.kernels import regions

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(regions, "nms", lambda boxes, _: torch.ones(boxes.shape[:2], dtype=torch.bool))
        (row,) = kernels.suppression(Bench(dry=True))
    assert row.failed
    assert row.figure


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "network,speed"])
    assert "no section 'speed'; there are facts, kernels" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--seconds", "nan"], ["--seconds", "0"], ["--json", "/proc/x.json"], ["--json", "/"]]
)
def test_what_cannot_be_done_is_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["--dry", *words])
    assert stop.value.code == 2
    assert words[0] in capsys.readouterr().err

"""Training on folders with faults that are kept outside the repository, and on what its runs leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.command import CommandError
from model.training import __main__ as command
from tests.paths import ROOT, SHARED

FAULTS = SHARED / "faults/reports"
pytestmark = pytest.mark.skipif(not FAULTS.is_dir(), reason="no faults/reports: name its folder in UPSNET_SHARED")


def options(folder: Path, out: Path) -> list[str]:
    """Those of a run on a folder."""
    parts = {"--annotations": folder / "panoptic.json", "--images": folder / "img", "--masks": folder / "pan"}
    return ["--config", "camvid_demo", *(str(word) for pair in parts.items() for word in pair), "--out", str(out)]


def write_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sound data set of the folder: ground, air, box, disc."""
    monkeypatch.syspath_prepend(FAULTS / "folders")
    from mk import write  # type: ignore[import-not-found]

    write(folder, 4)
    return folder


@pytest.mark.parametrize(
    ("name", "told"), [("t_things", "0 classes of stuff and 2 of things"), ("t_300", "303|a map holds")]
)
def test_classes_that_no_network_tells_apart_are_refused(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(CommandError, match=told) as error:
        command.main([*options(FAULTS / "folders" / name, tmp_path / "run"), "--steps", "1"])
    assert "\n" not in str(error.value)
    assert not any((tmp_path / "run").iterdir())


def test_a_run_does_not_go_on_with_other_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, out = write_base(tmp_path / "d_base", monkeypatch), tmp_path / "run"
    command.main([*options(base, out), "--steps", "1", "--device", "cpu"])
    with pytest.raises(CommandError, match="run holds a run with other categories: class 0 is 'ground'"):
        command.main([*options(FAULTS / "folders/t_valorder", out), "--steps", "3"])
    (out / "state.pt").write_bytes(b"")
    with pytest.raises(CommandError, match=r"run/state\.pt cannot be read"):
        command.main([*options(base, out), "--steps", "3"])


@pytest.mark.slow
def test_the_first_of_two_processes_may_score_past_their_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, out = write_base(tmp_path / "d_base", monkeypatch), tmp_path / "run"
    words = [*options(base, out), "--val-annotations", str(base / "panoptic.json"), "--checkpoint-seconds", "0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    call = [*torchrun, str(FAULTS / "runs/ddp_wrap.py"), *words, "--steps", "3", "--device", "cpu"]
    given = {**os.environ, "DDP_SECONDS": "5", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(call, env=given, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[:3000]
    steps = [json.loads(line)["step"] for line in (out / "losses.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]

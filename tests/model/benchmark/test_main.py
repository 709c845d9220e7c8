"""The benchmark on tiny networks: what it prints and writes; no test looks at a time."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.benchmark import __main__ as benchmark
from model.benchmark.timing import peak_bytes
from model.command import run
from tests.paths import DEMO


@pytest.mark.parametrize("source", ["camvid_demo", str(DEMO)])
def test_stages_and_plain_comparison(source: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--size", "64x96", "--batch", "1,2", "--against", "plain", "--rounds", "1", "--device", "cpu"]
    benchmark.main([source, *options, "--instances", "3", "--json", str(out)])
    figures = json.loads(out.read_text())
    assert figures["plain"]["agreement"] >= 0.9999
    assert figures["plain"]["ratio"] > 0
    assert figures["plain"]["images_per_second"]["plain"] == pytest.approx(2 / figures["plain"]["seconds"]["plain"])
    assert figures["precision"] == "float32"
    assert list(figures["batches"]) == ["1", "2"]
    assert sum(row["share"] for row in figures["stages"].values()) == pytest.approx(1)
    assert {"backbone", "pyramid", "rpn", "instance_head", "semantic_head", "panoptic_head"} <= set(figures["stages"])


def test_the_panoptic_head_equals_its_plain_form(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--size", "96x128", "--instances", "2,9", "--rounds", "1", "--device", "cpu", "--json", str(out)]
    benchmark.main(["--part", "panoptic_head", *options])
    rows = json.loads(out.read_text())["panoptic_head"]
    assert [(row["instances"], row["equal"]) for row in rows] == [(2, True), (9, True)]


@pytest.mark.parametrize(("part", "size"), [("deformable", "64x64"), ("convolution", "192x192")])
def test_the_convolutions_agree_with_torchs(part: str, size: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    benchmark.main(["--part", part, "--size", size, "--rounds", "1", "--device", "cpu", "--json", str(out)])
    assert json.loads(out.read_text())[part][0]["max_difference"] < 1e-4


def test_peak_memory_counts_what_a_run_allocates() -> None:
    found = peak_bytes(lambda: torch.ones(25_000_000).sum(), "cpu")
    if found is None:
        pytest.skip("this host does not tell a process's peak memory")
    assert 90e6 < found < 200e6


def test_stand_ins_share_classes_so_that_masks_are_removed() -> None:
    boxes, scores = torch.rand(2, 30, 4, 4), torch.rand(2, 30, 4)
    classes = benchmark.StandIns(0.05, 0.0, 14).panoptic(boxes, scores).classes
    assert classes[1].tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [1] * 2


def test_half_precision_on_a_cpu_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    line = ["benchmark", "camvid_demo", "--size", "64x96", "--device", "cpu", "--precision", "float16"]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as stop:
        run(benchmark.main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: Precision float16 needs a CUDA device; use float32 on a CPU.\n"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_device_is_compared_with_itself(precision: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--size", "360x480", "--batch", "2", "--against", "plain", "--rounds", "1", "--device", "cuda"]
    archive = str(DEMO)
    benchmark.main([archive, *options, "--precision", precision, "--json", str(out)])
    figures = json.loads(out.read_text())
    assert figures["precision"] == precision
    assert figures["plain"]["ratio"] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["x", "--batch", "0"],
        ["x", "--size", "8"],
        [],
        ["x", "--against", "magic"],
        ["--part", "deformable", "--precision", "float16"],
    ],
)
def test_bad_usage_exits_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        benchmark.main(wrong)
    assert stop.value.code == 2

"""The benchmark on tiny networks: what it prints and writes; no test looks at a time."""

import json
from pathlib import Path

import pytest
import torch

from model import benchmark
from model.timing import peak_bytes


@pytest.mark.parametrize("source", ["camvid_demo", str(Path(__file__).parents[2] / "weights/camvid_demo.pt")])
def test_stages_and_plain_comparison(source: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--size", "64x96", "--batch", "1,2", "--against", "plain", "--rounds", "1", "--device", "cpu"]
    benchmark.main([source, *options, "--instances", "3", "--json", str(out)])
    figures = json.loads(out.read_text())
    assert figures["plain"]["equal"] is True
    assert figures["plain"]["ratio"] > 0
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


@pytest.mark.parametrize("wrong", [["x", "--batch", "0"], ["x", "--size", "8"], [], ["x", "--against", "magic"]])
def test_bad_usage_exits_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        benchmark.main(wrong)
    assert stop.value.code == 2

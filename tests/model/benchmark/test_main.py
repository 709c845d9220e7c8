"""The benchmark on tiny networks: what it prints and writes; no test looks at a time."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model.benchmark import __main__ as benchmark
from tests.model.typed import typed
from tests.paths import DEMO


@pytest.mark.parametrize("source", ["camvid_demo", str(DEMO)])
def test_stages_and_plain_comparison(source: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--size", "64x96", "--batch", "1,2", "--against", "plain", "--rounds", "1", "--device", "cpu"]
    options += ["--precision", "float32"]
    benchmark.main([source, *options, "--instances", "3", "--json", str(out)])
    figures = json.loads(out.read_text())
    assert figures["plain"]["agreement"] >= 0.9999
    assert figures["plain"]["ratio"] > 0
    assert figures["plain"]["images_per_second"]["plain"] == pytest.approx(2 / figures["plain"]["seconds"]["plain"])
    assert figures["precision"] == "float32"
    assert list(figures["batches"]) == ["1", "2"]
    assert sum(row["share"] for row in figures["stages"].values()) == pytest.approx(1)
    assert {"backbone", "pyramid", "rpn", "instance_head", "semantic_head", "panoptic_head"} <= set(figures["stages"])


def test_a_part_is_measured_once_for_each_number_of_instances(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--size", "90x128", "--instances", "2,9", "--rounds", "1", "--device", "cpu", "--json", str(out)]
    benchmark.main(["--part", "panoptic_head", *options])
    figures = json.loads(out.read_text())
    assert [(row["instances"], row["equal"]) for row in figures["panoptic_head"]] == [(2, True), (9, True)]
    assert (figures["size"], figures["precision"]) == ("90x128", "float32")


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


def test_an_answer_agrees_with_itself_and_not_with_a_shifted_one() -> None:
    a = SimpleNamespace(classes=torch.tensor([3, 5]), segment_ids=torch.tensor([[1, 1, 2, 0]]))
    other_numbers = SimpleNamespace(classes=torch.tensor([5, 3]), segment_ids=torch.tensor([[2, 2, 1, 0]]))
    shifted = SimpleNamespace(classes=torch.tensor([3, 5]), segment_ids=torch.tensor([[0, 1, 1, 2]]))
    assert [benchmark.agreement(a, b) for b in (a, other_numbers, shifted)] == [1.0, 1.0, 0.25]


def test_sizes_are_height_and_width() -> None:
    assert benchmark.height_by_width("800x1333") == (800, 1333)
    assert benchmark.plain_or_peers("peers,plain") == ["peers", "plain"]


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (["x", "--batch", "0"], "--batch: expected a whole number above 0, got '0'"),
        (["x", "--rounds", "0"], "--rounds: expected a whole number above 0, got '0'"),
        (["x", "--threads", "-1"], "--threads: expected a whole number above 0, got '-1'"),
        (["x", "--size", "8"], "--size: expected HEIGHTxWIDTH, each at least 32, such as 800x1333; got '8'"),
        (["x", "--size", "800x31"], "expected HEIGHTxWIDTH"),
        (["x", "--size", "800x600x3"], "expected HEIGHTxWIDTH"),
        (["x", "--size", "800x65536"], "no image has a side over 65535; got '800x65536'"),
        (["x", "--threads", "100000"], "--threads: expected a whole number from 1 to 1024, got '100000'"),
        (["x", "--batch", ""], "--batch: expected a whole number above 0, got ''"),
        (["x", "--against", ""], "--against: expected plain, peers, or plain,peers; got ''"),
        (["x", "--json", ""], "--json: expected a path, got ''"),
        ([""], "give an archive or a configuration, or --part without one"),
        (["x", "--against", "magic"], "--against: expected plain, peers, or plain,peers; got 'magic'"),
        ([], "give an archive or a configuration, or --part without one"),
        (["x", "--part", "deformable"], "give an archive or a configuration, or --part without one"),
        (["--part", "deformable", "--precision", "float16"], "--part measures in float32"),
    ],
)
def test_bad_usage_exits_with_2(wrong: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("model.benchmark", *wrong) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["camvid_demo", "--precision", "float16"],
            "error: Precision float16 needs a CUDA device; use float32 or bfloat16 on a CPU.\n",
        ),
        (["no.pt"], "error: no.pt does not exist. Export an archive with `python -m model.export`, or name another.\n"),
    ],
)
def test_a_known_mistake_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("model.benchmark", *words, "--size", "64x96", "--device", "cpu") == 1
    assert capsys.readouterr().err == line


def test_the_output_is_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the archive, which is not there."""
    (tmp_path / "file").touch()
    for name, part in ((".", "is a folder"), ("file/x.json", "is no folder"), ("/proc/x.json", "cannot be written")):
        words = ["no.pt", "--json", str(tmp_path / name)]
        assert typed("model.benchmark", *words) == 1
        said = capsys.readouterr().err
        assert part in said
        assert said.count("\n") == 1
    assert typed("model.benchmark", str(tmp_path / "file"), "--json", str(tmp_path / "file")) == 1
    assert "file is read by this command too" in capsys.readouterr().err

"""The parts that are measured alone compute what their plain forms do."""

import json
from pathlib import Path

import pytest
import torch

from model.benchmark import __main__ as benchmark
from model.benchmark.parts import in_precision, random_things


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


def test_random_things_lie_in_the_image_and_are_the_same_each_time() -> None:
    boxes, masks, classes = random_things(50, 96, 128)
    assert (boxes.shape, masks.shape, classes.shape) == ((50, 4), (50, 28, 28), (50,))
    assert torch.equal(boxes, random_things(50, 96, 128)[0])
    assert float(boxes.min()) >= 0
    assert (boxes <= torch.tensor([127.0, 95, 127, 95])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_peers_compute_in_the_precision_of_ours() -> None:
    def product() -> torch.dtype:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    assert in_precision(product, "cpu", torch.float32)() == torch.float32
    assert in_precision(product, "cpu", torch.bfloat16)() == torch.bfloat16

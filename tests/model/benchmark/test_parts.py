"""The parts that are measured alone compute what their plain forms do."""

import pytest
import torch

from model.benchmark.parts import CHANNELS, PARTS, random_things


@pytest.mark.parametrize("instances", [2, 9])
def test_the_panoptic_head_equals_its_plain_form(instances: int) -> None:
    compare, stride = PARTS["panoptic_head"]
    figures = compare(96 // stride, 128 // stride, instances, 1, "cpu")
    assert (figures["instances"], figures["equal"]) == (instances, True)
    assert 1 <= figures["kept"] <= instances
    assert figures["ratio"] == figures["seconds"]["plain"] / figures["seconds"]["ours"]


@pytest.mark.parametrize(("part", "side"), [("deformable", 64), ("convolution", 192)])
def test_the_convolutions_agree_with_torchs(part: str, side: int) -> None:
    compare, stride = PARTS[part]
    with torch.inference_mode():
        figures = compare(side // stride, side // stride, CHANNELS, 1, "cpu")
    assert figures["max_difference"] < 1e-4
    assert {"ours", "plain"} <= set(figures["seconds"]) == set(figures["bytes"])


def test_random_things_lie_in_the_image_and_are_the_same_each_time() -> None:
    boxes, masks, classes = random_things(50, 96, 128)
    assert (boxes.shape, masks.shape, classes.shape) == ((50, 4), (50, 28, 28), (50,))
    assert torch.equal(boxes, random_things(50, 96, 128)[0])
    assert float(boxes.min()) >= 0
    assert (boxes <= torch.tensor([127.0, 95, 127, 95])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()

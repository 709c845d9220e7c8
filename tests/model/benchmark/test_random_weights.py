"""Random weights whose activations are of the size of trained ones."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.archive import sample_picture
from model.benchmark.random_weights import StandIns, random_network
from model.network.backbone import fold_norms
from model.network.upsnet import UPSNet

LARGEST = torch.finfo(torch.float16).max / 16


@pytest.fixture(scope="module", params=["camvid_demo", "coco_r50", "coco_r101_dcn"])
def network(request: pytest.FixtureRequest) -> UPSNet:
    return random_network(request.param, 256, 256, 3)


def test_weights_are_the_same_each_time() -> None:
    first, again = (random_network("camvid_demo", 64, 64, 3).state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    for name, weight in first.items():
        assert torch.equal(weight, again[name]), name


def test_activations_fit_half_precision_and_offsets_are_of_pixels(network: UPSNet) -> None:
    """On another picture than the one that the weights were settled on."""
    largest: dict[str, float] = {}
    offsets: list[float] = []

    def look(module: nn.Module, _: Any, found: Any) -> None:
        if isinstance(found, Tensor) and found.numel() > 0:
            name = names[module]
            largest[name] = max(largest.get(name, 0), float(found.abs().max()))
            if name.endswith(".offset"):
                offsets.append(float(found.clamp(-20, 20).std()))

    names = {module: name for name, module in network.named_modules()}
    hooks = [module.register_forward_hook(look) for module in names if not list(module.children())]
    with torch.inference_mode():
        answer = network([sample_picture(256, 192).flip(2).contiguous()])[0]
    for hook in hooks:
        hook.remove()
    assert len(largest) > 50
    assert {name: value for name, value in largest.items() if not value < LARGEST} == {}
    assert offsets
    assert all(0.2 < each < 20 for each in offsets), offsets
    assert len(answer.classes) > 0


def test_weights_fit_half_precision_when_norms_are_folded(network: UPSNet) -> None:
    folded = copy.deepcopy(network)
    fold_norms(folded)
    for name, weight in folded.named_parameters():
        assert float(weight.detach().abs().max()) < LARGEST, name


def test_as_many_things_are_found_as_asked_for(network: UPSNet) -> None:
    boxes, scores = torch.rand(2, 30, 4, 4), torch.rand(2, 30, 4)
    found = network.candidates.panoptic(boxes, scores)
    assert found.counts.tolist() == found.most_of_a_class.tolist() == [3, 3]
    assert torch.equal(found.boxes, boxes[:, :3, 1])


def test_stand_ins_share_classes_so_that_masks_are_removed() -> None:
    found = StandIns(0.05, 0.0, 0.5, 14).panoptic(torch.rand(2, 30, 4, 4), torch.rand(2, 30, 4))
    assert found.classes[1].tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [1] * 2
    assert found.most_of_a_class.tolist() == [6, 6]

"""`torch.export` follows the network up to where the host first waits, for images of every size."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from model.benchmark.random_weights import random_network
from model.network.backbone import fold_norms
from model.network.configurations import candidates
from model.network.upsnet import UPSNet


def trunk(network: UPSNet, pixels: Tensor, _: Tensor) -> Any:
    """P2..P6 and the semantic logits."""
    pyramid = network.features(pixels)
    return pyramid, network.semantic_head(pyramid)


class Part(nn.Module):
    """What a function makes of a network and its input."""

    def __init__(self, network: UPSNet, run: Callable[[UPSNet, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.network, self.run = network, run

    def forward(self, pixels: Tensor, limits: Tensor) -> Any:
        return self.run(self.network, pixels, limits)


def image(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Random pixels, and the limits of boxes."""
    pixels = torch.randn(1, 3, height, width).contiguous(memory_format=torch.channels_last)
    return pixels, torch.tensor([[width - 1.0, height - 1, width - 1, height - 1]])


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("run", [trunk, UPSNet.locate])
@pytest.mark.parametrize("name", ["camvid_demo", "coco_r50"])
def test_an_exported_network_takes_other_sizes(name: str, run: Callable[..., Any]) -> None:
    """Sides from 96 pixels: P6 is one row high for 64, and torch compiles such a side apart."""
    network = random_network(name, 96, 128, instances=4)
    network.candidates = candidates(panoptic_threshold=0.02, stuff=8)  # random weights find something
    fold_norms(network)
    part = Part(network, run).eval()
    height, width = torch.export.Dim("height", min=3, max=64), torch.export.Dim("width", min=3, max=64)
    free = {2: 32 * height, 3: 32 * width}
    exported = torch.export.export(part, image(96, 128), dynamic_shapes=(free, None))
    for size in ((160, 96), (128, 256)):
        given = image(*size)
        found, wanted = tree_leaves(exported.module()(*given)), tree_leaves(part(*given))
        for ours, eager in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, eager)
    operators = {str(node.target) for node in exported.graph.nodes}
    assert {"upsnet.convolution.default", "upsnet.deformable_convolution.default"} < operators

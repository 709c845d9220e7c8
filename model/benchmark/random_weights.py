"""Networks with random weights whose activations have the size that trained ones have.

Random weights alone let activations grow past what half precision holds, and leave the offsets of deformable
convolutions at zero, where sampling is easiest.
"""

from typing import Any

import torch
from torch import Tensor, nn

from model.archive import sample_picture
from model.network.backbone import FrozenNorm
from model.network.configurations import CONFIGURATIONS
from model.network.deformable import DeformableConv
from model.network.instance_head import Candidates
from model.network.structures import PaddedDetections
from model.network.upsnet import UPSNet
from model.training.initialise import initialise

OFFSET = 2.0  # pixels, the deviation of offsets


class StandIns(Candidates):
    """Detections for random weights, which find nothing: the first proposals, four for each class in turn."""

    def panoptic(self, boxes: Tensor, scores: Tensor) -> PaddedDetections:
        """The first `limit` boxes of each image, at least one of them, with descending scores."""
        images, count = boxes.size(0), min(self.limit, boxes.size(1))
        index = torch.arange(count, device=boxes.device)
        classes = torch.div(index, 4, rounding_mode="floor") % (scores.size(2) - 1) + 1
        found = torch.linspace(0.99, 0.61, count, device=boxes.device)
        counts = torch.full((images,), count, device=boxes.device)
        most = (classes[:, None] == classes).sum(1).amax().expand(images)
        return PaddedDetections(boxes[:, :count, 1], found.expand(images, -1), classes.expand(images, -1), counts, most)


def random_network(name: str, short_side: int, long_side: int, instances: int) -> UPSNet:
    """A configuration with random weights, the same each time, that finds `instances` things in each image."""
    torch.manual_seed(0)
    network = CONFIGURATIONS[name](short_side=short_side, long_side=long_side).eval()
    initialise(network)
    settle(network)
    network.candidates = StandIns(score_threshold=0.05, panoptic_threshold=0.0, nms_threshold=0.5, limit=instances)
    return network


def settle(network: UPSNet) -> None:
    """Set norms and weights, in place, so that numbers stay near 1 and offsets near `OFFSET` on a sample picture.

    Each frozen norm takes the mean and variance of what comes to it. Each layer of the pyramid and the heads is scaled
    to variance 1, and those that predict offsets to `OFFSET`.
    """

    def take_statistics(norm: Any, given: tuple[Tensor, ...]) -> None:
        norm.running_var, norm.running_mean = torch.var_mean(given[0], dim=(0, 2, 3))

    def scale(layer: Any, _: tuple[Tensor, ...], found: Tensor) -> Tensor:
        factor = (OFFSET if layer in offsets else 1.0) / found.std().clamp(min=1e-6)
        layer.weight.mul_(factor)
        waiting.pop(layer).remove()  # once: heads are shared by levels, the finest comes first
        return found * factor

    offsets = [module.offset for module in network.modules() if isinstance(module, DeformableConv)]
    for layer in offsets:
        nn.init.normal_(layer.weight)
    heads = [network.pyramid, network.rpn.conv, network.box_head, network.mask_head, network.semantic_head]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    scaled = {*layers, *offsets} - {network.semantic_head.logits}
    waiting = {layer: layer.register_forward_hook(scale) for layer in scaled}
    norms = [module for module in network.modules() if isinstance(module, FrozenNorm)]
    hooks = [norm.register_forward_pre_hook(take_statistics) for norm in norms]
    with torch.no_grad():
        side = network.transform.short_side
        pyramid = network.features(network.transform([sample_picture(side, side)]).pixels)
        network.rpn.head(pyramid)
        network.semantic_head(pyramid)
        width = pyramid.p2.size(1)
        network.box_head(torch.randn(16, width, network.box_head.side, network.box_head.side))
        network.mask_head(torch.randn(16, width, network.mask_head.side, network.mask_head.side))
    for hook in [*hooks, *waiting.values()]:
        hook.remove()

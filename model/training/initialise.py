"""Weights before the first step (SPEC 15.7)."""

from torch import nn

from model.network.deformable import DeformableConv
from model.network.upsnet import UPSNet


def initialise(network: UPSNet) -> None:
    """Fill the network in place; a backbone that was trained elsewhere is loaded after this."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, DeformableConv):
            nn.init.zeros_(module.offset.weight)
            if module.offset.bias is not None:
                nn.init.zeros_(module.offset.bias)
    for layer in network.pyramid.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
    for layer in (network.box_head.fc1, network.box_head.fc2):
        nn.init.kaiming_uniform_(layer.weight, a=1)
    small = [network.rpn.conv, network.rpn.logits, network.rpn.deltas, network.box_head.logits]
    for part in [*small, network.semantic_head.logits]:
        nn.init.normal_(part.get_parameter("weight"), std=0.01)
    nn.init.normal_(network.box_head.deltas.weight, std=0.001)

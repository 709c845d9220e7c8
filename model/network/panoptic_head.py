"""The parameter-free panoptic head (Xiong et al. 2019, section 3)."""

import torch
from torch import Tensor, nn

from model import ops
from model.network.structures import Detections, PanopticDecision


class PanopticHead(nn.Module):
    """Lets stuff, instances and void compete for each pixel; the highest logit wins, the first of equal ones.

    - A stuff class bids its semantic logit, enlarged four times (bilinear).
    - An instance bids the semantic logit of its class inside its box, plus its mask logit, enlarged to the box. Both
      are 0 outside the box and take part there (quirk Q4); the two windows differ by up to a pixel (quirk Q8).
    - Void bids the highest semantic logit of the thing classes, less the highest that an instance has (quirk Q9).

    Before that, candidates are dropped whose mask is empty or covered by better ones of their class (quirk Q10).
    `model.network.plain` has the same as plain tensor code.

    Args:
        stuff: number of stuff classes (U).
        overlap: share of its mask that a candidate may lose to better ones of its class.
    """

    def __init__(self, stuff: int, overlap: float = 0.3) -> None:
        super().__init__()
        self.stuff = stuff
        self.overlap = overlap

    def forward(self, semantic_logits: Tensor, detections: list[Detections]) -> list[PanopticDecision]:
        """Decide every pixel of a batch.

        Args:
            semantic_logits: (N, S, H / 4, W / 4) float32, H and W at least 8.
            detections: the candidates of each image, at least one, by descending score.

        Returns:
            The decision for each image, at H x W.
        """
        counts = [len(found.boxes) for found in detections]
        channels, semantic, order = ops.panoptic(
            semantic_logits,
            torch.cat([found.boxes for found in detections]),
            torch.cat([found.mask_logits for found in detections]),
            torch.cat([found.classes for found in detections]),
            counts,
            max([found.max_per_class for found in detections]),
            self.stuff,
            self.overlap,
        )
        orders = order.split(counts)
        return [PanopticDecision(channels[i], semantic[i], orders[i]) for i in range(len(counts))]

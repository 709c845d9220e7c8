"""The parameter-free panoptic head (Xiong et al. 2019, section 3)."""

import torch
from torch import Tensor, nn

from model import ops
from model.network.structures import Detections, PanopticDecision


class PanopticHead(nn.Module):
    """Decides each pixel between stuff, instances and void: the highest logit wins, and the first of equal ones.

    - The logit of a stuff class is its semantic logit, enlarged four times (bilinear).
    - The logit of an instance is the semantic logit of its class, inside its box, plus its mask logit, enlarged to the
      box. Outside the box both are 0 and still compete (quirk Q4). The two windows differ by up to a pixel (quirk Q8).
    - The logit of void is the highest semantic logit of the thing classes, minus the highest semantic logit that an
      instance has (quirk Q9).

    Before that, candidates whose mask is empty, or mostly covered by better ones of their class, are dropped (quirk
    Q10). `model.network.plain` does the same in plain tensor code.

    Args:
        stuff: number of stuff classes (U).
        overlap: share of its mask that a candidate may lose to better ones of its class.
    """

    def __init__(self, stuff: int, overlap: float) -> None:
        super().__init__()
        self.stuff = stuff
        self.overlap = overlap

    def forward(self, semantic_logits: Tensor, detections: list[Detections]) -> PanopticDecision:
        """Decide every pixel of a batch.

        Args:
            semantic_logits: (N, S, H / 4, W / 4) float32, H and W at least 8.
            detections: the candidates of each image, at least one, by descending score.

        Returns:
            The decision, at H x W.
        """
        channels, semantic, order = ops.panoptic(
            semantic_logits,
            torch.cat([found.boxes for found in detections]),
            torch.cat([found.mask_logits for found in detections]),
            torch.cat([found.classes for found in detections]),
            [len(found.boxes) for found in detections],
            max([found.max_per_class for found in detections]),
            self.stuff,
            self.overlap,
        )
        return PanopticDecision(channels, semantic, order)

"""From the panoptic head's decision to the segments of the answer."""

import torch
from torch import Tensor, nn

from model import ops
from model.network.structures import Batch, Detections, Panoptic, PanopticDecision


class Segments(nn.Module):
    """Merges semantic and panoptic maps into segments.

    Args:
        stuff: number of stuff classes (U).
        stuff_area_limit: stuff with fewer pixels at the original size becomes void.
    """

    def __init__(self, stuff: int, stuff_area_limit: int) -> None:
        super().__init__()
        self.stuff = stuff
        self.stuff_area_limit = stuff_area_limit

    def forward(
        self, decision: PanopticDecision, semantic_logits: Tensor, detections: list[Detections], batch: Batch
    ) -> Tensor:
        """Segments of a batch.

        Args:
            decision: the panoptic head's, at the padded size.
            semantic_logits: (N, S, H / 4, W / 4) float32.
            detections: the candidates of each image.
            batch: the images; their sizes are read, not their pixels.

        Returns:
            Segments at the original sizes, things first, by descending score; none for an image that is all void. They
            are packed for one transfer to the host, for `unpack` to read.
        """
        sizes: list[int] = []
        originals: list[int] = []
        for i in range(len(detections)):
            sizes += [batch.sizes[i][0], batch.sizes[i][1]]
            originals += [batch.original_sizes[i][0], batch.original_sizes[i][1]]
        return ops.segments(
            decision.channels,
            decision.semantic,
            semantic_logits,
            torch.cat([found.classes for found in detections]),
            torch.cat([found.scores for found in detections]),
            decision.order,
            [len(found.boxes) for found in detections],
            sizes,
            batch.scales,
            originals,
            self.stuff,
            self.stuff_area_limit,
        )


def unpack(packed: Tensor, original_sizes: list[tuple[int, int]]) -> list[Panoptic]:
    """The segments of each image, on the host: one transfer for them all.

    Args:
        packed: what `Segments` gives.
        original_sizes: height and width of each image as given.
    """
    fetched = ops.to_host(packed)
    first = len(fetched)
    for size in original_sizes:
        first -= size[0] * size[1]
    tables = ops.reinterpret(fetched[:first], torch.float64).view(len(original_sizes), 256, 7)
    results: list[Panoptic] = []
    for i, size in enumerate(original_sizes):
        end = first + size[0] * size[1]
        rows = tables[i, 1 : int(tables[i, 0, 0].item()) + 1]
        whole = rows.long()
        segment_ids = fetched[first:end].view(size[0], size[1])
        results.append(Panoptic(segment_ids, whole[:, 0], rows[:, 1].float(), whole[:, 2], whole[:, 3:]))
        first = end
    return results

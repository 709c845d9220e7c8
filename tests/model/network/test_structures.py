"""The tuples between the parts: what an archive's callers read of them."""

import torch

from model.archive import quiet
from model.network.structures import Analysis, Batch, Detections, Panoptic, Proposals


class Passes(torch.nn.Module):
    def forward(self, batch: Batch, found: list[Detections]) -> tuple[Batch, list[Proposals]]:
        return batch, [Proposals(each.boxes, each.scores) for each in found]


def test_they_cross_torchscript_alone_and_in_lists() -> None:
    ones = torch.ones(2, 4)
    batch = Batch(torch.zeros(1, 3, 32, 32), [(30, 31)], [0.5], [(60, 62)], ones)
    with quiet():
        passed, proposals = torch.jit.script(Passes())(batch, [Detections(ones, ones[:, 0], ones, ones, 3)])
    assert (passed.sizes, passed.scales, passed.original_sizes) == ([(30, 31)], [0.5], [(60, 62)])
    assert torch.equal(proposals[0].boxes, ones)
    assert proposals[0]._fields == ("boxes", "scores")


def test_an_archives_answers_keep_their_fields() -> None:
    """Archives that were exported before hold these names, and `model.predictor` reads them."""
    assert Panoptic._fields == ("segment_ids", "classes", "scores", "areas", "boxes")
    assert Analysis._fields == ("panoptic", "semantic", "boxes", "scores", "classes", "mask_logits")

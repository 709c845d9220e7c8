"""Several views of one image."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model.benchmark.random_weights import StandIns
from model.evaluate.multi_scale import MultiScale, interpolate, mirror
from model.interface import codec
from model.interface.panoptic import Pixels
from model.network.structures import PaddedDetections
from model.predictor import Predictor
from tests.paths import DEMO, ROOT


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return codec.decode((ROOT / "docs/china.jpg").read_bytes(), 10_000_000)


def test_one_view_is_the_network_itself(photo: Pixels) -> None:
    plain = Predictor(DEMO, "cpu").analyze([photo])[0]
    view = MultiScale.of_archive(DEMO, "cpu", [], flip=False).analyze([photo])[0]
    assert np.array_equal(plain.panoptic.segment_ids, view.panoptic.segment_ids)
    assert plain.panoptic.segments == view.panoptic.segments
    assert np.array_equal(plain.semantic, view.semantic)
    np.testing.assert_allclose(plain.boxes, view.boxes, atol=1e-3)


def test_mirrored_views_see_a_mirrored_image_mirrored(photo: Pixels) -> None:
    network = MultiScale.of_archive(DEMO, "cpu", [320, 360], flip=True)
    there = network.analyze([photo])[0].semantic
    back = network.analyze([np.ascontiguousarray(photo[:, ::-1])])[0].semantic[:, ::-1]
    assert (there == back).mean() > 0.98  # the grid of pixels itself is not symmetric


class AtTheRight(StandIns):
    """Every box ends at the right edge of its view, and the last view's come first."""

    def decode(self, proposals: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
        box = limits[0] * torch.tensor([1.0, 0.0, 1.0, 1.0]) - torch.tensor([19.0, 0.0, 0.0, 0.0])
        return box.expand(1, proposals.size(1), deltas.size(1) // 4, 4)

    def panoptic(self, boxes: Tensor, scores: Tensor) -> PaddedDetections:
        return super().panoptic(boxes.flip(1), scores)


def test_a_box_at_the_edge_of_a_mirrored_view_stays_in_the_frame(photo: Pixels) -> None:
    """480 columns are 146.67 of a view with 147: mirrored there, its last column lies a pixel outside the frame."""
    analyst = MultiScale.of_archive(DEMO, "cpu", [110], flip=True)
    analyst.network.candidates = AtTheRight(0.05, 0.0, 0.5, 2)
    found = analyst.analyze([photo[:360, :480]])[0]
    assert found.panoptic.segment_ids.shape == (360, 480)


def test_boxes_mirror_and_mirror_back() -> None:
    box = torch.tensor([[2.0, 3, 5, 9]])
    assert mirror(box, 10).tolist() == [[4, 3, 7, 9]]
    assert torch.equal(mirror(mirror(box, 10), 10), box)


def test_interpolate_interpolates_and_stops_at_the_ends() -> None:
    line = torch.tensor([[[0.0, 10, 20]]])
    assert interpolate(line, torch.tensor([-1.0, 0.25, 1, 5]), 2).flatten().tolist() == [0, 2.5, 10, 20]
    assert torch.equal(interpolate(line, torch.arange(3.0), 2), line)

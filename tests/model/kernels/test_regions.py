"""Suppression and pooling in Triton: on a device, or on CPU tensors in Triton's interpreter (see `conftest.py`)."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import cpu, regions
from model.kernels.plain import roi_align_torchvision
from model.network.instance_head import pyramid_levels
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import boxes_of_two_images, random_pyramid

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_they_run_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("regions") == ["_overlaps", "_suppress", "_roi_align"]


def test_suppression_follows_a_chain() -> None:
    """Each box suppresses the next one alone, so that every other one stays."""
    left = 4.0 * torch.arange(70)
    boxes = torch.stack([left, torch.zeros(70), left + 13, torch.full((70,), 13.0)], dim=1)[None]
    assert regions.nms(boxes.to(DEVICE), 0.5)[0].tolist() == [i % 2 == 0 for i in range(70)]


@pytest.mark.parametrize("count", [1, 33, 90])
def test_suppression_of_groups_equals_torchvision(count: int) -> None:
    torch.manual_seed(count)
    corners = (40 * torch.rand(3, count, 2)).round()
    boxes = torch.cat([corners, corners + (20 * torch.rand(3, count, 2)).round()], dim=2)
    wanted = cpu.nms(boxes, 0.5)  # by torchvision
    assert torch.equal(regions.nms(boxes.to(DEVICE), 0.5).cpu(), wanted)
    assert bool(wanted.any(1).all())
    assert regions.nms(boxes[:0].to(DEVICE), 0.5).shape == (0, count)


def test_pooling_from_levels_equals_torchvision() -> None:
    torch.manual_seed(0)
    features, boxes = list(random_pyramid(20, 384, 512)[:4]), boxes_of_two_images(9)
    rois = torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)])
    levels = pyramid_levels(rois[:, 1:], 112.0)
    assert levels.unique().tolist() == [0, 1, 2, 3]
    given = [level.to(DEVICE) for level in features], rois.to(DEVICE), levels.to(DEVICE)
    found = regions.roi_align(*given, 7)
    torch.testing.assert_close(found.cpu(), roi_align_torchvision(features, rois, levels, 7), atol=1e-4, rtol=1e-4)
    assert regions.roi_align(given[0], given[1][:0], given[2][:0], 7).shape == (0, 20, 7, 7)

"""The sums of softmax in Triton: on a device, or on CPU tensors in Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels.segments_cpu import mean_softmax
from model.kernels.stuff_scores import add_softmax
from tests.model.kernels.occupancy import kernels_that_run_well

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_it_runs_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("stuff_scores") == ["_add_softmax"]


def test_the_sums_of_each_image_are_those_of_its_own_pixels() -> None:
    torch.manual_seed(0)
    stuff, sizes = 3, [13, 30, 16, 32]
    channels = torch.randint(0, 6, (2, 16, 32), dtype=torch.uint8)
    logits = 3 * torch.randn(2, 20, 4, 8)
    kinds = torch.arange(256).clamp(max=stuff + 1).byte().repeat(2, 1)  # channels from 3 on are things
    facts, sums = torch.zeros(2, 8, dtype=torch.float64), torch.zeros(2, 2, 256, dtype=torch.float64)
    facts[:, 2:4] = torch.tensor(sizes).view(2, 2)
    given = [tensor.to(DEVICE) for tensor in (channels, logits, facts, kinds, sums)]
    add_softmax(*given, sizes, stuff)
    total, pixels = given[4].cpu().unbind(1)
    for i in range(2):
        shown = channels[i, : sizes[2 * i], : sizes[2 * i + 1]]
        wanted = mean_softmax(shown, kinds[i].long(), logits[i])
        torch.testing.assert_close((total[i] / pixels[i].clamp(min=1)).float()[:stuff], wanted[:stuff])
        assert pixels[i, :stuff].tolist() == [int((shown == kind).sum()) for kind in range(stuff)]
        assert float(total[i, stuff:].abs().sum()) == 0  # a thing has its own score

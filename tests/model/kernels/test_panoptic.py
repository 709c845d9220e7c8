"""The decision in Triton: on a device, or on CPU tensors in Triton's interpreter (see `conftest.py`)."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import panoptic
from model.network.plain import PlainPanopticHead
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import panoptic_case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_it_runs_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("panoptic") == ["_order", "_bound", "_decide"]


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_plain_head(seed: int) -> None:
    cases = [panoptic_case(10 * seed + i, count) for i, count in enumerate((1, 12, 5))]
    cases[2][1].classes.zero_()  # only placeholders
    logits, found = torch.stack([case[0] for case in cases]), [case[1] for case in cases]
    boxes, masks, classes = (torch.cat([each[k] for each in found]).to(DEVICE) for k in (0, 3, 2))
    counts = [len(each.boxes) for each in found]
    channels, semantic, order = panoptic.panoptic(logits.to(DEVICE), boxes, masks, classes, counts, 12, 5, 0.3)
    plain = PlainPanopticHead(5, 0.3)
    for i, part in enumerate(order.cpu().split(counts)):
        wanted = plain.decide(logits[i], found[i])
        assert part[: len(wanted.order)].tolist() == wanted.order.tolist()
        assert sorted(part.tolist()) == list(range(counts[i]))
        agree = channels[i].cpu() == wanted.channels
        assert bool(agree.all()) or DEVICE == "cuda"
        assert float(agree.float().mean()) >= 0.9999
        assert float((semantic[i].cpu() == wanted.semantic).float().mean()) >= 0.9999

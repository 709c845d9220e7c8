"""The decision in Triton: on a device, or on CPU tensors in Triton's interpreter (see `conftest.py`)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from model.kernels import masks, panoptic
from model.network.plain import PlainPanopticHead
from model.network.structures import Detections, PanopticDecision
from tests.model.kernels.occupancy import kernels_that_run_well
from tests.model.network.examples import panoptic_case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_it_runs_well_on_devices_that_this_host_need_not_have() -> None:
    assert kernels_that_run_well("panoptic") == ["_order", "_bound", "_decide"]


def kernels_and_plain(
    logits: Tensor, found: list[Detections], stuff: int = 5
) -> list[tuple[PanopticDecision, PanopticDecision]]:
    """The decision of each image by the kernels, and by the plain head; the order holds no dropped candidates."""
    boxes, drawn, classes = (torch.cat([each[k] for each in found]).to(DEVICE) for k in (0, 3, 2))
    counts, most = [len(each.boxes) for each in found], max(each.max_per_class for each in found)
    channels, semantic, order = panoptic.panoptic(logits.to(DEVICE), boxes, drawn, classes, counts, most, stuff, 0.3)
    pairs = []
    for i, part in enumerate(order.cpu().split(counts)):
        assert sorted(part.tolist()) == list(range(counts[i]))
        wanted = PlainPanopticHead(stuff, 0.3).decide(logits[i], found[i])
        ours = PanopticDecision(channels[i].cpu(), semantic[i].cpu(), part[: len(wanted.order)])
        pairs.append((ours, wanted))
    return pairs


def assert_equal(ours: PanopticDecision, wanted: PanopticDecision) -> None:
    """A device may round a pixel otherwise."""
    assert ours.order.tolist() == wanted.order.tolist()
    for mine, other in ((ours.channels, wanted.channels), (ours.semantic, wanted.semantic)):
        agree = mine == other
        assert bool(agree.all()) or DEVICE == "cuda"
        assert float(agree.float().mean()) >= 0.9999


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_plain_head(seed: int) -> None:
    cases = [panoptic_case(10 * seed + i, count) for i, count in enumerate((1, 12, 5))]
    cases[2][1].classes.zero_()  # only placeholders
    logits, found = torch.stack([case[0] for case in cases]), [case[1] for case in cases]
    for ours, wanted in kernels_and_plain(logits, found):
        assert_equal(ours, wanted)


def test_it_sorts_out_more_candidates_and_classes_than_a_program_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "BLOCKS", 2)  # an interpreter is slow: fewer programs, and a small picture
    stuff, things, count = 40, 36, 44
    assert min(stuff, things, count) > panoptic.LANES
    logits, found = panoptic_case(3, count, stuff, things)
    logits = F.interpolate(logits[None, :, ::6, ::8], (8, 16), mode="bilinear")[0]
    found = found._replace(boxes=found.boxes.div(2).clamp(max=31), classes=1 + torch.arange(count) * 7 % 12 * 3)
    found = found._replace(max_per_class=int(found.classes.bincount().max()))
    [(ours, wanted)] = kernels_and_plain(logits[None], [found], stuff)
    assert panoptic.LANES < len(wanted.order) < count, "none is dropped, or too many"
    assert_equal(ours, wanted)


def test_a_full_map_has_all_its_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "BLOCKS", 2)
    logits, found = panoptic_case(4, 5, 250, 5)
    logits = logits[:, :8, :16]
    found.boxes.clamp_(max=31)
    logits[249, 0] = 50.0
    found.boxes[4], found.mask_logits[4] = torch.tensor([0.0, 16, 31, 31]), 50.0
    found.classes[4] = 6 - int(found.classes[0])
    [(ours, wanted)] = kernels_and_plain(logits[None], [found._replace(max_per_class=5)], 250)
    assert_equal(ours, wanted)
    assert len(wanted.order) == 5
    assert {249, 254} <= set(ours.channels.unique().tolist())


def test_outside_their_boxes_instances_tie_at_0_and_the_first_wins() -> None:  # quirk Q4
    logits, found = panoptic_case(1, 6)
    logits = logits[:, :6, :16] - 9  # stuff is far below 0, as are the instances inside their boxes
    found.boxes.clamp_(max=23)
    found.boxes[0] = torch.tensor([8.0, 8, 15, 15])
    found.mask_logits[0] = 1
    [(ours, wanted)] = kernels_and_plain(logits[None], [found])
    assert_equal(ours, wanted)
    assert wanted.channels.unique().tolist() == [5, 6]  # the second where the first's box is


def test_pixels_that_no_nan_reaches_are_decided_as_ever() -> None:
    logits, found = panoptic_case(2, 6)
    logits[2, 9, 11] = logits[6, 15, 3] = math.nan
    reached = F.interpolate(logits[None], scale_factor=4.0, mode="bilinear")[0].isnan().any(0)
    [(ours, wanted)] = kernels_and_plain(logits[None], [found])
    assert 64 <= int(reached.sum()) <= 200
    assert int(ours.semantic.max()) < 8
    assert set(ours.channels.unique().tolist()) <= {*range(5 + len(wanted.order)), 255}
    kept = [PanopticDecision(each.channels[~reached], each.semantic[~reached], each.order) for each in (ours, wanted)]
    assert_equal(*kept)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_picture_may_be_one_row_of_tiles(rows: int) -> None:
    """Of 8 rows of pixels, or half of that."""
    logits, found = panoptic_case(4, 5)
    logits = logits[:, :rows]
    found.boxes[:, 1::2] = (found.boxes[:, 1::2] / 12).clamp(max=4.0 * rows - 1)
    [(ours, wanted)] = kernels_and_plain(logits[None], [found])
    assert_equal(ours, wanted)

"""The Triton kernels on a device; without one, on CPU tensors in Triton's interpreter (see `conftest.py`)."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model.network import plain
from tests.model.network.test_panoptic_head import random_case
from tests.model.network.test_parts import naive

pytest.importorskip("triton", reason="Triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

from model import ops  # noqa: E402
from model.kernels import deformable, masks, panoptic, regions  # noqa: E402
from model.network.instance_head import pool, pyramid_levels  # noqa: E402
from model.network.structures import Pyramid  # noqa: E402


def offsets_of(kind: str, *shape: int) -> torch.Tensor:
    offsets = torch.randn(*shape)
    return {"small": offsets, "integer": offsets.round(), "border": offsets * 3, "far": offsets * 1e6}[kind]


@pytest.mark.parametrize("kind", ["small", "integer", "border", "far"])
def test_deformable_convolution_equals_float64(kind: str) -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(1, 3, 5, 6), torch.randn(4, 3, 3, 3)
    offsets = offsets_of(kind, 1, 18, 5, 6)
    found = deformable.deform_conv2d(*(tensor.to(DEVICE) for tensor in (features, offsets, weight)), None)
    torch.testing.assert_close(found.cpu(), naive(features, offsets, weight).float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_keeps_positions_exact(dtype: torch.dtype, tolerance: float) -> None:
    """Past column 512 a half-precision position is off by up to a quarter pixel; a ramp shows it."""
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 as integers; needs a device")
    width = 600
    features = (torch.arange(width) / width)[None, None, None].expand(1, 16, 3, width).to(dtype)
    weight = torch.zeros(1, 16, 3, 3, dtype=dtype)
    weight[:, 0, 1, 1] = 1
    offsets = torch.zeros(1, 18, 3, width)
    offsets[:, 9] = 0.3
    found = deformable.deform_conv2d(*(tensor.to(DEVICE) for tensor in (features, offsets, weight)), None)
    wanted = (torch.arange(width - 1) + 0.3) / width
    torch.testing.assert_close(found[0, 0, 1, :-1].cpu().float(), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("outputs", [19, 150])
def test_deformable_convolution_takes_a_batch_of_odd_sizes_and_none(outputs: int) -> None:
    torch.manual_seed(0)
    features, weight, bias = torch.randn(2, 37, 5, 7), torch.randn(outputs, 37, 3, 3), torch.randn(outputs)
    offsets = 2 * torch.randn(2, 18, 5, 7)
    given = [tensor.to(DEVICE) for tensor in (features, offsets, weight, bias)]
    found = deformable.deform_conv2d(*given)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for i in range(2):
        wanted = naive(features[i : i + 1], offsets[i : i + 1], weight).float() + bias[:, None, None]
        torch.testing.assert_close(found[i : i + 1].cpu(), wanted, atol=1e-4, rtol=1e-4)
    assert deformable.deform_conv2d(given[0][:0], given[1][:0], *given[2:]).shape == (0, outputs, 5, 7)


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_kernel_equals_the_plain_head(seed: int) -> None:
    cases = [random_case(10 * seed + i, count) for i, count in enumerate((1, 12, 5))]
    cases[2][3].zero_()  # only placeholders
    logits = torch.stack([case[0] for case in cases])
    boxes, masks, classes = (torch.cat([case[k] for case in cases]).to(DEVICE) for k in (1, 2, 3))
    counts = [len(case[1]) for case in cases]
    segments, semantic, order = panoptic.panoptic(logits.to(DEVICE), boxes, masks, classes, counts, 12, 5, 0.3)
    for i, part in enumerate(order.cpu().split(counts)):
        full = F.interpolate(logits[i][None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
        channels, keep = plain.panoptic_logits(full, 5, *cases[i][1:])
        assert part[: len(keep)].tolist() == keep
        assert sorted(part.tolist()) == list(range(counts[i]))
        agree = segments[i].cpu() == plain.panoptic_map(channels)
        assert bool(agree.all()) or DEVICE == "cuda"
        assert float(agree.float().mean()) >= 0.9999
        assert float((semantic[i].cpu() == full.argmax(0)).float().mean()) >= 0.9999


def test_the_operator_is_called_from_a_reloaded_script(tmp_path: Path) -> None:
    from model.archive import quiet

    class Convolve(torch.nn.Module):
        def forward(self, x: torch.Tensor, offsets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return torch.ops.upsnet.deform_conv2d(x, offsets, weight, None)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    given = torch.randn(1, 3, 5, 6), torch.randn(1, 18, 5, 6), torch.randn(4, 3, 3, 3)
    with quiet(), torch.no_grad():
        torch.jit.script(Convolve()).save(str(tmp_path / "convolve.pt"))
        reloaded = torch.jit.load(str(tmp_path / "convolve.pt"))
        found = reloaded(*(tensor.to(DEVICE) for tensor in given))
        torch.testing.assert_close(found.cpu(), naive(*given).float(), atol=1e-4, rtol=0)


def test_masks_over_many_blocks_are_removed_as_the_plain_head_does() -> None:
    size = 220
    boxes = torch.tensor([[3.0, 2, 215, 210], [60, 60, 219, 219], [0, 0, 219, 90], [5, 5, 200, 206]])
    logits = torch.full((4, 28, 28), 2.0)
    logits[1, :, 14:] = -2
    logits[3, 10:] = -2
    kinds = torch.tensor([1, 1, 2, 1])
    owner, starts = torch.zeros(4, dtype=torch.long), torch.tensor([0, 4], dtype=torch.int32)
    given = [tensor.to(DEVICE) for tensor in (boxes, logits, kinds, owner, starts)]
    kept = masks.keep(masks.place(*given[:3]), *given[3:], alike=3, overlap=0.3, size=(size, size))
    assert size * size > masks.PIXELS * masks.BLOCKS
    assert torch.where(kept.cpu())[0].tolist() == plain.remove_masks(boxes, logits, kinds, size, size)[0] == [0, 2]


def test_a_picture_without_things_compiles_the_removal_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up shows black pictures; else the first request would wait for the compiler."""
    ranks: list[int] = []
    monkeypatch.setattr(masks, "_count_taken", {(1, masks.BLOCKS): lambda *given, **_: ranks.append(given[6])})
    nothing, ends = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.tensor([0, 1], dtype=torch.int32)
    placeholder = masks.place(torch.zeros(1, 4, device=DEVICE), torch.ones(1, 28, 28, device=DEVICE), nothing)
    masks.keep(placeholder, nothing, ends.to(DEVICE), alike=1, overlap=0.3, size=(64, 64))
    assert ranks == [1]


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
    wanted = ops._nms_groups(boxes, 0.5)
    assert torch.equal(regions.nms(boxes.to(DEVICE), 0.5).cpu(), wanted)
    assert bool(wanted.any(1).all())
    assert regions.nms(boxes[:0].to(DEVICE), 0.5).shape == (0, count)


def test_pooling_from_levels_equals_torchvision() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(*(torch.randn(2, 20, 96 // 2**k, 128 // 2**k) for k in range(5)))
    boxes = [500 * torch.rand(9, 4), torch.tensor([[-30.0, -9, 700, 500], [0, 0, 0, 0], [500, 380, 511, 383]])]
    for each in boxes:
        each[:, 2:] = each[:, :2] + (each[:, 2:] - each[:, :2]).abs()
    rois = torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)])
    levels = pyramid_levels(rois[:, 1:], 112.0)
    assert levels.unique().tolist() == [0, 1, 2, 3]
    found = regions.roi_align([p.to(DEVICE) for p in pyramid[:4]], rois.to(DEVICE), levels.to(DEVICE), 7)
    torch.testing.assert_close(found.cpu(), pool(pyramid, boxes, 7, 112.0), atol=1e-4, rtol=1e-4)

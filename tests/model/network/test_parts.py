"""Boxes, anchors, images and operators by hand; every part scripts and takes nothing for an answer."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from model.archive import cast_weights, quiet
from model.interface.scale import padded_side, scaled_side
from model.interface.scale import test_scale as scale_for_test
from model.network import boxes as box_ops
from model.network.anchors import Anchors, cell_anchors
from model.network.backbone import FrozenNorm, ResNet, fold_norms, unfold_norms
from model.network.images import ImageTransform, resize_bilinear
from model.network.instance_head import Candidates, pool
from model.network.rpn import present
from model.network.semantic_head import SemanticHead
from model.network.structures import Proposals, Pyramid
from model.ops import deform_conv2d


def test_boxes_cover_their_far_edge() -> None:
    assert box_ops.areas(torch.tensor([[2.0, 3, 4, 3]])).tolist() == [3.0]
    pair = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[5.0, 0, 14, 9]])
    assert box_ops.iou(*pair).item() == pytest.approx(50 / 150)


def test_decoding_undoes_encoding() -> None:
    boxes, targets = torch.tensor([[0.0, 0, 9, 19]]), torch.tensor([[3.0, 1, 30, 12]])
    weights = [10.0, 10.0, 5.0, 5.0]
    torch.testing.assert_close(box_ops.decode(boxes, box_ops.encode(boxes, targets, weights), weights), targets)
    huge = box_ops.decode(boxes, torch.tensor([[0.0, 0, 100, 0]]), [1.0] * 4)
    assert float(huge[0, 2] - huge[0, 0] + 1) == pytest.approx(10 * 1000 / 16)


def test_equal_overlap_survives_suppression() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 4]])  # IoU exactly 0.5
    assert box_ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert box_ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.49).tolist() == [0]
    assert box_ops.nms(boxes[:0], torch.zeros(0), 0.5).tolist() == []


def test_anchors_of_stride_16_are_the_published_ones() -> None:
    wanted = [[-84.0, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]]
    assert cell_anchors(16, 8, [0.5, 1, 2]).tolist() == wanted
    level = Anchors([16], 8, [0.5, 1, 2])([(2, 3)])[0]
    assert level.shape == (18, 4)
    assert (level[3] - level[0]).tolist() == [16, 0, 16, 0]  # next column
    assert (level[9] - level[0]).tolist() == [0, 16, 0, 16]  # next row


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [(480, 640, (800, 1067)), (500, 1000, (666, 1333)), (1, 20_000, (1, 1333)), (1, 1, (800, 800))],
)
def test_sides_are_scaled_and_never_vanish(height: int, width: int, sides: tuple[int, int]) -> None:
    scale = scale_for_test(height, width, 800, 1333)
    assert (scaled_side(height, scale), scaled_side(width, scale)) == sides
    assert padded_side(sides[0]) % 32 == 0
    assert 0 <= padded_side(sides[0]) - sides[0] < 32


def test_resizing_uses_the_exact_factor() -> None:
    ramp = torch.arange(10.0)[None, None].expand(1, 1, 10)
    resized = resize_bilinear(ramp, 0.75, 1, 8)[0, 0]  # sample k is at (k + 0.5) / 0.75 - 0.5
    wanted = [min((k + 0.5) / 0.75 - 0.5, 9) for k in range(8)]
    torch.testing.assert_close(resized, torch.tensor(wanted))


def test_images_of_other_padded_sizes_are_refused() -> None:
    transform = ImageTransform([0.0] * 3, [1.0] * 3, 64, 128)
    images = [torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(3, 64, 128, dtype=torch.uint8)]
    with pytest.raises(ValueError, match="image 1 is 64 x 128"):
        transform(images)


def naive(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Deformable convolution in float64, one sample at a time."""
    _, channels, height, width = features.shape
    out = torch.zeros(1, weight.size(0), height, width, dtype=torch.float64)
    for row, column, tap in itertools.product(range(height), range(width), range(9)):
        y = row + tap // 3 - 1 + float(offsets[0, 2 * tap, row, column])
        x = column + tap % 3 - 1 + float(offsets[0, 2 * tap + 1, row, column])
        sample = torch.zeros(channels, dtype=torch.float64)
        for v, u in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            if 0 <= v < height and 0 <= u < width:
                sample += features[0, :, v, u].double() * (1 - abs(y - v)) * (1 - abs(x - u))
        out[0, :, row, column] += weight[:, :, tap // 3, tap % 3].double() @ sample
    return out


@pytest.mark.parametrize("kind", ["small", "integer", "border", "far"])
def test_deformable_convolution_equals_float64(kind: str) -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(1, 3, 5, 6), torch.randn(4, 3, 3, 3)
    offsets = torch.randn(1, 18, 5, 6)
    offsets = {"small": offsets, "integer": offsets.round(), "border": offsets * 3, "far": offsets * 1e6}[kind]
    with torch.no_grad():
        found = deform_conv2d(features, offsets, weight, None)
    torch.testing.assert_close(found, naive(features, offsets, weight).float(), atol=1e-4, rtol=0)


def test_deformable_convolution_scripts_and_takes_a_batch() -> None:
    torch.manual_seed(0)
    features, weight, bias = torch.randn(3, 4, 7, 9), torch.randn(2, 4, 3, 3), torch.randn(2)
    offsets = 2 * torch.randn(3, 18, 7, 9)
    with quiet():
        scripted = torch.jit.script(deform_conv2d)
    with torch.no_grad():
        whole = deform_conv2d(features, offsets, weight, bias)
        assert torch.equal(whole, scripted(features, offsets, weight, bias))
        for i in range(3):
            alone = deform_conv2d(features[i : i + 1], offsets[i : i + 1], weight, bias)
            torch.testing.assert_close(whole[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_deformable_gradients_are_torchvisions() -> None:
    from torchvision.ops import deform_conv2d as reference

    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 6, 5), 2 * torch.randn(2, 18, 6, 5), torch.randn(4, 3, 3, 3), torch.randn(4)]
    for tensor in inputs:
        tensor.requires_grad_()
    ours = torch.autograd.grad(deform_conv2d(*inputs).square().sum(), inputs)
    theirs = torch.autograd.grad(reference(*inputs, padding=1).square().sum(), inputs)
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-3, rtol=1e-4)


def test_pooling_no_boxes_gives_none() -> None:
    levels = [torch.randn(2, 4, side, side) for side in (16, 8, 4, 2, 1)]
    pooled = pool(Pyramid(*levels), [torch.zeros(0, 4), torch.zeros(0, 4)], 7, 224.0)
    assert pooled.shape == (0, 4, 7, 7)


def test_pooling_without_gradients_equals_torchvisions() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(*(torch.randn(2, 20, 96 // 2**k, 128 // 2**k) for k in range(5)))
    boxes = [500 * torch.rand(60, 4), torch.tensor([[-30.0, -9, 700, 500], [0, 0, 0, 0], [500, 380, 511, 383]])]
    for each in boxes:
        each[:, 2:] = each[:, :2] + (each[:, 2:] - each[:, :2]).abs()
    with torch.no_grad():
        found = pool(pyramid, boxes, 7, 112.0)
        half = pool(Pyramid(*(level.half() for level in pyramid)), boxes, 7, 112.0)
    torch.testing.assert_close(found, pool(pyramid, boxes, 7, 112.0), atol=1e-5, rtol=1e-5)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), found, atol=5e-3, rtol=1e-3)


def test_scoring_levels_before_they_are_enlarged_changes_nothing() -> None:
    torch.manual_seed(0)
    head = SemanticHead([20, 16, 12], 9)
    pyramid = Pyramid(*(torch.randn(2, 20, 64 // 2**k, 96 // 2**k) for k in range(5)))
    with torch.no_grad():
        found = head(pyramid)
        torch.testing.assert_close(found, head.logits(head.features(pyramid)), atol=1e-5, rtol=1e-5)
    assert found.is_contiguous()  # as the panoptic head reads them


def test_detections_of_nothing() -> None:
    candidates = Candidates(0.05, 0.6, 100)
    assert candidates.instances(torch.zeros(0, 4, 4), torch.zeros(0, 4))[2].tolist() == []
    chosen = candidates.panoptic(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4))
    assert chosen.counts.tolist() == [1, 1]
    assert (chosen.classes[:, 0].tolist(), chosen.scores[:, 0].tolist()) == ([0, 0], [1, 1])
    assert chosen.boxes[:, 0].abs().sum() == 0


def test_one_suppression_over_all_classes() -> None:  # quirk Q11
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 9]])[None, :, None].expand(1, 2, 3, 4)
    scores = torch.tensor([[[0.1, 0.9, 0.0], [0.2, 0.0, 0.8]]])
    chosen = Candidates(0.05, 0.6, 100).panoptic(boxes, scores)
    assert chosen.counts.tolist() == [1]
    assert chosen.classes[0, 0] == 1


def test_the_limit_lets_equal_scores_pass_together() -> None:
    boxes = 20.0 * torch.arange(5)[:, None] + torch.tensor([0.0, 0, 9, 9])
    scores = torch.tensor([[0.3, 0.7], [0.1, 0.9], [0.2, 0.8], [0.2, 0.8], [0.9, 0.1]])
    chosen = Candidates(0.05, 0.6, 2).panoptic(boxes[None, :, None].expand(1, 5, 2, 4), scores[None])
    assert chosen.counts.tolist() == [3]
    assert chosen.boxes[0, :3, 0].tolist() == [20, 40, 60]


def test_a_low_threshold_lets_a_proposal_stand_for_two_classes() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [30.0, 0, 39, 9]]).repeat(1, 1)[None, None]  # one proposal, a box a class
    boxes = torch.cat([boxes[:, :, :1], boxes], dim=2)
    chosen = Candidates(0.05, 0.3, 100).panoptic(
        torch.cat([boxes, boxes], dim=1), torch.tensor([[[0.1, 0.5, 0.4], [1.0, 0.0, 0.0]]])
    )
    assert chosen.counts.tolist() == [2]
    assert chosen.classes[0, :2].tolist() == [1, 2]


def test_the_best_are_the_same_alone_and_in_a_batch_ties_included() -> None:
    scores = torch.randint(0, 20, (3, 500), generator=torch.Generator().manual_seed(0)) / 20.0
    scores[1, ::3] = -1
    values, order = box_ops.best(scores, 60)
    for i in range(3):
        wanted = torch.sort(scores[i], descending=True, stable=True)
        assert torch.equal(order[i], wanted[1][:60])
        assert torch.equal(values[i], wanted[0][:60])
        assert torch.equal(order[i], box_ops.best(scores[i : i + 1], 60)[1][0])


def test_empty_places_are_dropped() -> None:
    found = present(Proposals(torch.arange(12.0).view(3, 4), torch.tensor([0.5, 0.0, -1.0])))
    assert found.scores.tolist() == [0.5, 0.0]
    assert len(found.boxes) == 2


def test_the_frozen_norm_is_torchvisions_in_every_precision() -> None:
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(0)
    reference, norm = FrozenBatchNorm2d(6), FrozenNorm(6)
    for buffer in reference.buffers():
        buffer.uniform_(0.5, 2)
    norm.load_state_dict(reference.state_dict())
    features = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(norm(features), reference(features))
    half = norm(features.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), reference(features), atol=2e-2, rtol=1e-2)


def test_the_backbone_runs_in_half_precision_and_stays_channels_last() -> None:
    torch.manual_seed(0)
    backbone = ResNet((1, 1, 1, 1), FrozenNorm, width=8, deformable_from=5).eval()
    pixels = torch.randn(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        full = backbone(pixels)
        cast_weights(backbone, torch.float16)
        half = backbone(pixels.half())
    for ours, wanted in zip(half, full, strict=True):
        assert ours.dtype == torch.float16
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert float((ours.float() - wanted).abs().max()) <= 1e-2 * float(wanted.abs().max())


def test_folded_norms_give_the_same_features_and_fold_back() -> None:
    torch.manual_seed(0)
    backbone = ResNet((2, 1, 1, 1), FrozenNorm, width=8, deformable_from=5).eval()
    for norm in (module for module in backbone.modules() if isinstance(module, FrozenNorm)):
        for buffer in norm.buffers():
            buffer.uniform_(0.5, 2)
    folded = copy.deepcopy(backbone)
    fold_norms(folded)
    assert not any(isinstance(module, FrozenNorm) for module in folded.modules())
    again = ResNet((2, 1, 1, 1), FrozenNorm, width=8, deformable_from=5).eval()
    again.load_state_dict(unfold_norms(again, folded.state_dict()))
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        wanted, ours, back = backbone(pixels), folded(pixels), again(pixels)
    for i in range(4):
        torch.testing.assert_close(ours[i], wanted[i], rtol=1e-4, atol=1e-4 * float(wanted[i].abs().max()))
        torch.testing.assert_close(back[i], ours[i], rtol=1e-5, atol=1e-5 * float(wanted[i].abs().max()))

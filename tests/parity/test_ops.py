"""Stage-level parity with `public_ops.npz`: no network, indices exact."""

import pytest
import torch
from torch import Tensor

from model import ops as operators
from model.interface import scale as image_scale
from model.kernels import panoptic_cpu
from model.network import boxes as box_ops
from model.network import plain
from model.network.anchors import cell_anchors
from model.network.instance_head import Candidates, pool, pyramid_levels
from model.network.segments import Segments, unpack
from model.network.structures import Batch, Detections, PaddedDetections, PanopticDecision, Pyramid
from tests.parity.conftest import Arrays, assert_same_segments

W10 = box_ops.BOX_WEIGHTS


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
def test_cell_anchors(ops: Arrays, stride: int) -> None:
    close(cell_anchors(stride, 8, [0.5, 1, 2]), ops[f"anchors_stride{stride}"].float(), 0)


def test_box_coding_and_overlap(ops: Arrays) -> None:
    boxes, deltas = ops["dec_boxes"], ops["dec_deltas"]
    close(box_ops.decode(boxes, deltas), ops["dec_w1"], 1e-3)
    close(box_ops.decode(boxes, deltas, W10), ops["dec_w10"], 1e-3)
    clipped = box_ops.clip(
        box_ops.decode(boxes, deltas, W10).view(60, -1, 4), box_ops.limits([(240, 320)], boxes)
    ).flatten(1)
    close(clipped, ops["dec_w10_clip_h240_w320"], 1e-3)
    close(box_ops.encode(boxes, boxes.flip(0), W10), ops["enc_w10"])
    close(box_ops.iou(boxes[:20], boxes[20:40]), ops["iou"])


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_nms_keeps_a_pair_at_exactly_the_threshold(ops: Arrays, threshold: float) -> None:
    dets = ops["nms_dets"]
    assert torch.equal(box_ops.nms(dets[:, :4], dets[:, 4], threshold), ops[f"nms_keep_{threshold}"])


def test_roi_align_over_levels(ops: Arrays) -> None:
    features = [ops[f"ra_feat{k}"] for k in range(4)]
    pyramid = Pyramid(*features, features[3])
    rois = ops["ra_rois"]
    assert torch.equal(pyramid_levels(rois[:, 1:], 224.0), ops["ra_level"])
    images = [rois[rois[:, 0] == i, 1:] for i in range(len(features[0]))]
    order = torch.cat([torch.where(rois[:, 0] == i)[0] for i in range(len(features[0]))])
    close(pool(pyramid, images, 7, 224.0), ops["ra_out7"][order])
    first = order[:12] if torch.equal(order, torch.arange(len(rois))) else None
    assert first is not None
    close(pool(pyramid, [boxes[:12] for boxes in images], 14, 224.0), ops["ra_out14"])


def test_deformable_convolution(ops: Arrays) -> None:
    with torch.no_grad():
        close(operators.deform_conv2d(ops["dcn_x"], ops["dcn_offset"], ops["dcn_w"], ops["dcn_b"]), ops["dcn_out"])


def first_image(chosen: PaddedDetections) -> tuple[Tensor, Tensor, Tensor]:
    count = int(chosen.counts[0])
    return chosen.boxes[0, :count], chosen.scores[0, :count], chosen.classes[0, :count]


def test_detections_of_both_paths(ops: Arrays) -> None:
    candidates = Candidates(0.05, 0.6, 0.5, 100)
    height, width = ops["mr_im_info"][0, :2].int().tolist()
    scores = ops["mr_cls_score"].softmax(1)
    close(scores, ops["mr_cls_prob"])
    decoded = candidates.decode(
        ops["mr_rois"][None, :, 1:], ops["mr_bbox_pred"], box_ops.limits([(height, width)], ops["mr_rois"])
    )[0]
    for path, found in (
        ("inst", candidates.instances(decoded, ops["mr_cls_prob"])),
        ("pan", first_image(candidates.panoptic(decoded[None], ops["mr_cls_prob"][None]))),
    ):
        boxes, found_scores, classes = found
        assert torch.equal(classes, ops[f"mr_{path}_classes"])
        close(found_scores, ops[f"mr_{path}_scores"])
        close(boxes, ops[f"mr_{path}_boxes"][:, 1:], 1e-3)


def test_nothing_confident_gives_the_placeholder(ops: Arrays) -> None:
    chosen = Candidates(0.05, 0.6, 0.5, 100).panoptic(torch.rand(1, 5, 9, 4), torch.full((1, 5, 9), 0.1))
    boxes, scores, classes = first_image(chosen)
    assert torch.equal(boxes, ops["mr_empty_boxes"][:, 1:])
    assert torch.equal(scores, ops["mr_empty_scores"])
    assert torch.equal(classes, ops["mr_empty_classes"])


@pytest.mark.parametrize("case", ["main", "nodet", "allremoved"])
def test_panoptic_head_plain_and_fast(ops: Arrays, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panoptic_cpu, "STRIDE", 1)  # the logits are stored at full size
    logits = ops[f"ph_{case}_fcn_output"][0]
    order = ops[f"ph_{case}_probs"].argsort(descending=True)
    if case == "allremoved":  # stored unsorted, and quirk Q6 keeps the first as stored
        order = torch.arange(len(order))
    boxes = ops[f"ph_{case}_boxes"][order, 1:]
    masks, classes = ops[f"ph_{case}_mask_logits"][order], ops[f"ph_{case}_classes"][order]

    all_logits, kept = plain.panoptic_logits(logits, 11, boxes, masks, classes, 0.3)
    close(all_logits, ops[f"ph_{case}_logits"][0])
    assert torch.equal(order[kept], ops[f"ph_{case}_keep"])
    assert torch.equal(plain.panoptic_map(all_logits), ops[f"ph_{case}_argmax"])

    candidates = boxes, masks, classes, [len(boxes)], len(boxes)
    channels, _, found = operators.panoptic(logits[None], *candidates, stuff=11, overlap=0.3)
    assert found[: len(kept)].tolist() == kept
    assert torch.equal(channels[0], ops[f"ph_{case}_argmax"])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_merge(ops: Arrays, case: int) -> None:
    semantic, channels, classes, merged = (ops[f"uni{case}_{name}"] for name in ("seg", "pan", "cls", "out"))
    height, width = channels.shape
    decision = PanopticDecision(channels[None], semantic[None], torch.arange(len(classes)))
    logits, nothing = torch.zeros(1, 19, (height + 3) // 4, (width + 3) // 4), torch.zeros(len(classes), 0)
    candidates = Detections(nothing, torch.ones(len(classes)), classes, nothing, 0)
    limits = box_ops.limits([(height, width)], logits)
    batch = Batch(nothing, [(height, width)], [1.0], [(height, width)], limits)
    segments = Segments(11, int(ops[f"uni{case}_limit"]))
    found = unpack(segments(decision, logits, [candidates], batch), batch.original_sizes)[0]
    assert_same_segments(found.segment_ids, found.classes, merged, 11)


def test_sizes(ops: Arrays) -> None:
    for row in ops["size_table"].tolist():
        height, width, short, long = map(int, row[:4])
        scale = image_scale.test_scale(height, width, short, long)
        assert scale == pytest.approx(row[4], rel=1e-6)
        sides = image_scale.scaled_side(height, scale), image_scale.scaled_side(width, scale)
        assert sides == (row[5], row[6])
        assert (image_scale.padded_side(sides[0]), image_scale.padded_side(sides[1])) == (row[7], row[8])

"""Every stage of the network against the published network's arrays, each fed with the stored input of that stage."""

import json
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from model import ops
from model.convert import convert_weights
from model.network import boxes as box_ops
from model.network.configurations import CONFIGURATIONS
from model.network.instance_head import pool
from model.network.rpn import drop_padding, propose
from model.network.segments import unpack
from model.network.structures import Batch, Detections, Proposals, Pyramid, RpnOutputs, Stages
from model.network.upsnet import UPSNet
from tests.parity.conftest import Arrays, assert_same_segments, published_weights, read_arrays


class Fixture(NamedTuple):
    arrays: Arrays
    network: UPSNet
    photo: Tensor
    batch: Batch
    stages: Stages
    pyramid: Pyramid


@pytest.fixture(scope="module", params=["public_coco_r50_s0", "public_cityscapes_r50_s0"])
def fixture(request: pytest.FixtureRequest, parity: Path, seeded_weights: ModuleType) -> Fixture:
    facts = json.loads((parity / f"{request.param}.json").read_text())
    network = CONFIGURATIONS[facts["config"]](short_side=facts["short"], long_side=facts["max"]).eval()
    network.load_state_dict(convert_weights(published_weights(parity, seeded_weights, facts), facts["config"]))
    arrays = read_arrays(parity / f"{request.param}.npz") | read_arrays(parity / f"{request.param}_sem.npz")
    photo = read_arrays(parity / "public_photo_000000142238.npz")["bgr"].flip(2).permute(2, 0, 1)
    with torch.inference_mode():
        batch = network.transform([photo])
        stages = network.backbone(batch.pixels)
        return Fixture(arrays, network, photo, batch, stages, network.pyramid(stages))


def close(actual: Tensor, expected: Tensor, tolerance: float, relative_to_std: bool = False) -> None:
    scale = float(expected.std()) if relative_to_std else 1.0
    torch.testing.assert_close(actual, expected, atol=tolerance * scale, rtol=0)


def test_pixels(fixture: Fixture) -> None:
    close(fixture.batch.pixels.flip(1), fixture.arrays["data"], 1e-3)
    height, width, scale = fixture.arrays["im_info"][0].tolist()
    assert fixture.batch.sizes[0] == (height, width)
    assert fixture.batch.scales[0] == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_stages(fixture: Fixture, level: int) -> None:
    stride = {2: 4, 3: 2, 4: 1, 5: 1}[level]
    features = fixture.stages[level - 2]
    close(features[0, ::16, ::stride, ::stride], fixture.arrays[f"res{level}"], 1e-3, relative_to_std=True)
    check_statistics(features, fixture.arrays[f"res{level}_stat"])


@pytest.mark.parametrize("level", [2, 3, 4, 5, 6])
def test_pyramid(fixture: Fixture, level: int) -> None:
    stride = {2: 4, 3: 2, 4: 1, 5: 1, 6: 1}[level]
    features = fixture.pyramid[level - 2]
    close(features[0, ::8, ::stride, ::stride], fixture.arrays[f"p{level}"], 1e-3, relative_to_std=True)
    check_statistics(features, fixture.arrays[f"p{level}_stat"])


def check_statistics(features: Tensor, expected: Tensor) -> None:
    found = torch.stack([features.mean(), features.std(), features.abs().max()])
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3 * float(expected[1]))


def test_proposal_head(fixture: Fixture) -> None:
    with torch.inference_mode():
        outputs = fixture.network.rpn.head(fixture.pyramid)
    for k in range(5):
        close(outputs.logits[k][0], fixture.arrays[f"rpn_score_p{k + 2}"], 1e-3)
        close(outputs.deltas[k][0], fixture.arrays[f"rpn_delta_p{k + 2}"], 1e-3)


def stored_outputs(arrays: Arrays) -> RpnOutputs:
    return RpnOutputs(
        [arrays[f"rpn_score_p{k}"][None] for k in range(2, 7)], [arrays[f"rpn_delta_p{k}"][None] for k in range(2, 7)]
    )


def share_matched(found: Tensor, expected: Tensor) -> float:
    """Share of the expected boxes that a found box meets within 0.05 pixels."""
    distance = torch.cdist(expected, found, p=torch.inf)
    return float((distance.min(1)[0] < 0.05).float().mean())


def test_proposals(fixture: Fixture) -> None:
    anchors = fixture.network.rpn.level_anchors(fixture.pyramid)
    found = drop_padding(propose(stored_outputs(fixture.arrays), anchors, fixture.batch.limits, 1000, 1000, 0.7)[0])
    assert len(found.boxes) == len(fixture.arrays["proposals"])
    assert share_matched(found.boxes, fixture.arrays["proposals"][:, 1:]) >= 0.995
    with torch.inference_mode():
        end_to_end = drop_padding(fixture.network.rpn(fixture.pyramid, fixture.batch.limits)[0])
    assert share_matched(end_to_end.boxes, fixture.arrays["proposals"][:, 1:]) >= 0.97


def test_box_head(fixture: Fixture) -> None:
    with torch.inference_mode():
        pooled = pool(fixture.pyramid, [fixture.arrays["proposals"][:, 1:]], 7, 224.0)
        logits, deltas = fixture.network.box_head(pooled)
    rows = fixture.arrays["pooled7_rows"].long()
    close(pooled[rows][:, ::16], fixture.arrays["pooled7"], 2e-3, relative_to_std=True)
    close(logits, fixture.arrays["cls_score"], 5e-3)
    if "bbox_pred" in fixture.arrays:
        close(deltas, fixture.arrays["bbox_pred"], 5e-3)
    else:
        close(deltas[::8], fixture.arrays["bbox_pred_every8"], 5e-3)


@pytest.mark.parametrize("path", ["det", "pan_cand"])
def test_detections_end_to_end(fixture: Fixture, path: str) -> None:
    arrays, network = fixture.arrays, fixture.network
    proposals = Proposals(arrays["proposals"][:, 1:], arrays["proposal_scores"])
    with torch.inference_mode():
        predictions = network.predict_boxes(fixture.pyramid, [proposals], fixture.batch.limits)
        if path == "pan_cand":
            logits = network.semantic_head(fixture.pyramid)
            found = network.panoptic_detections(network.candidates_of(fixture.pyramid, predictions, logits))[0]
        else:
            found = network.instance_detections(fixture.pyramid, predictions)[0]
    boxes = arrays[f"{path}_boxes"][:, 1:]
    assert len(found.boxes) == len(boxes)
    order = match(found.boxes, found.classes, boxes, arrays[f"{path}_classes"])
    close(found.scores[order], arrays[f"{path}_scores"], 1e-3)
    close(found.boxes[order], boxes, 0.1)
    close(found.mask_logits[order], arrays[f"{path}_mask_logits"], 2e-2)


def match(boxes: Tensor, classes: Tensor, wanted: Tensor, wanted_classes: Tensor) -> Tensor:
    """The found box of each wanted one: of its class, with the largest IoU."""
    overlaps = box_ops.iou(wanted, boxes) * (wanted_classes[:, None] == classes)
    order = overlaps.argmax(1)
    assert len(order.unique()) == len(order)
    return order


def test_semantic_logits(fixture: Fixture) -> None:
    with torch.inference_mode():
        logits = fixture.network.semantic_head(fixture.pyramid)[0]
    close(logits, fixture.arrays["fcn_score"], 1e-3, relative_to_std=True)


def test_panoptic_map_and_merge(fixture: Fixture) -> None:
    arrays, network = fixture.arrays, fixture.network
    logits, classes, scores = arrays["fcn_score"], arrays["pan_cand_classes"], arrays["pan_cand_scores"]
    masks, most = arrays["pan_cand_mask_logits"], int(classes.bincount().max())
    found = Detections(arrays["pan_cand_boxes"][:, 1:], scores, classes, masks, most)
    with torch.inference_mode():
        decision = network.panoptic_head(logits[None], [found])
    kept = decision.order[: len(arrays["pan_keep"])]
    assert torch.equal(kept, arrays["pan_keep"])
    assert torch.equal(classes[kept], arrays["pan_cls_inds"])
    close(scores[kept], arrays["pan_cls_probs"], 1e-3)
    equal = decision.channels[0] == arrays["panoptic_map"]
    assert bool(equal[arrays["panoptic_margin_fp16"] > 1e-2].all())
    assert equal.float().mean() >= 0.999
    assert (decision.semantic[0] == arrays["fcn_argmax"]).float().mean() >= 0.999
    size, scale, original = fixture.batch.sizes[0], fixture.batch.scales[0], fixture.batch.original_sizes[0]
    assert torch.equal(ops.to_original(arrays["fcn_argmax"], size, scale, original), arrays["seg_orig"])
    assert torch.equal(ops.to_original(arrays["panoptic_map"], size, scale, original), arrays["pan_orig"])

    stored = decision._replace(channels=arrays["panoptic_map"][None], semantic=arrays["fcn_argmax"][None])
    merged = unpack(network.segments(stored, logits[None], [found], fixture.batch), [original])[0]
    assert_same_segments(merged.segment_ids, merged.classes, arrays["unified"], network.segments.stuff)


def test_instances_at_original_size(fixture: Fixture) -> None:
    with torch.inference_mode():
        found = fixture.network.analyze([fixture.photo])[0]
    wanted = fixture.arrays["inst_boxes"]
    assert len(found.boxes) == len(wanted)
    order = match(found.boxes, found.classes, wanted, fixture.arrays["det_classes"])
    close(found.boxes[order], wanted, 0.1)


def test_batch_gives_the_answers_of_each_image_alone(fixture: Fixture) -> None:
    images = [fixture.photo, fixture.photo.flip(2), fixture.photo.flip(1)]
    with torch.inference_mode():
        together = fixture.network(images)
        for image, found in zip(images, together, strict=True):
            alone = fixture.network([image])[0]
            assert torch.equal(alone.classes, found.classes)
            agreement = (alone.segment_ids == found.segment_ids).float().mean()
            assert agreement >= 0.9999


def test_all_published_key_lists_convert(parity: Path) -> None:
    for config in ("coco_r50", "coco_r101_dcn", "cityscapes_r50", "cityscapes_r101_w_coco"):
        keys = json.loads((parity / f"keys_{config}.json").read_text())
        weights = {key: torch.zeros(entry["shape"]) for key, entry in keys.items()}
        counters = sum(key.endswith("num_batches_tracked") for key in keys)
        assert len(convert_weights(weights, config)) == len(keys) - counters

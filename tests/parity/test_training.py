"""Training forward and backward against the published network, with its stored random draws."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from model.convert import convert_weights, our_name
from model.network.configurations import coco_r50
from model.network.upsnet import UPSNet
from model.ops import source_indices
from model.training import targets
from model.training.dataset import Sample
from model.training.optimizer import parameter_groups
from model.training.recipe import RECIPES
from model.training.step import Losses, TrainingStep
from tests.parity.conftest import Arrays, published_weights, read_arrays

STRIDES = (4, 8, 16, 32, 64)
NAMES = {
    "rpn_class": "rpn_cls_loss",
    "rpn_box": "rpn_bbox_loss",
    "class": "cls_loss",
    "box": "bbox_loss",
    "mask": "mask_loss",
    "semantic": "fcn_loss",
    "roi_semantic": "fcn_roi_loss",
    "panoptic": "panoptic_loss",
}


def flat(arrays: Arrays, name: str) -> Tensor:
    """(A, h, w) of each level -> one row of anchors: row, column, anchor."""
    return torch.cat([arrays[f"{name}_fpn{stride}"].permute(1, 2, 0).flatten() for stride in STRIDES]).long()


class StoredDraws(TrainingStep):
    """Takes the published run's draws in place of random ones."""

    arrays: Arrays

    def sample_anchors(self, labels: Tensor) -> Tensor:
        assert torch.equal(labels, flat(self.arrays, "rpn_prelabel"))
        return flat(self.arrays, "rpn_label")

    def sample_regions(self, *parts: Any) -> list[targets.Regions]:
        sample = parts[2][0]
        stored = self.arrays["rois"][:, 1:]
        regions = targets.describe_regions(stored / sample.scale, sample.boxes, sample.classes, sample.scale)
        return [regions._replace(boxes=stored)]

    def draw_objects(self, _: Sample) -> Tensor:
        return self.arrays["panoptic_keep_inds"].long()


class Run(NamedTuple):
    facts: dict[str, Any]
    arrays: Arrays
    network: UPSNet
    sample: Sample
    losses: Losses


def draw(polygons: list[list[float]], width: int, height: int) -> Tensor:
    image = Image.new("L", (width, height))
    for ring in polygons:
        ImageDraw.Draw(image).polygon(ring, outline=1, fill=1)
    return torch.from_numpy(np.array(image)) > 0


def make_sample(facts: dict[str, Any], arrays: Arrays) -> Sample:
    height, width, scale = arrays["im_info"][0].tolist()
    size = (int(height), int(width))
    scale = 250 / 427 if size[0] == 250 else scale
    padded = arrays["data"].shape[2:]
    rows = source_indices(size[0], 1 / scale, 427, torch.device("cpu"))
    columns = source_indices(size[1], 1 / scale, 640, torch.device("cpu"))
    semantic = torch.full(padded, 255)
    semantic[: size[0], : size[1]] = arrays["sem_png"][rows][:, columns].long()
    polygons = [entry["segmentation"] for entry in facts["gt_json"]]
    masks = torch.zeros(len(polygons), *padded, dtype=torch.bool)
    for mask, rings in zip(masks, polygons, strict=True):
        mask[: size[0], : size[1]] = draw(rings, 640, 427)[rows][:, columns]
    nothing = torch.zeros(0, 4)
    pixels = arrays["data"][0].flip(0)  # BGR -> RGB
    boxes, classes = arrays["gt_boxes_orig_xyxy"], arrays["gt_classes"].long()
    empty = nothing[:, 0].long()
    crowds = torch.zeros(padded, dtype=torch.bool)
    return Sample("photo", pixels, size, scale, semantic, boxes, classes, masks, nothing, empty, crowds, polygons)


@pytest.fixture(scope="module")
def run(parity: Path, seeded_weights: ModuleType) -> Run:
    facts = json.loads((parity / "public_train_coco_r50_s0.json").read_text())
    arrays = read_arrays(parity / "public_train_coco_r50_s0.npz")
    source = {"config": "coco_r50", "seed": 0, "gains": None, "weights_sha256": facts["weights_sha256"]}
    network = coco_r50()
    network.load_state_dict(convert_weights(published_weights(parity, seeded_weights, source), "coco_r50"))
    for part in (network.backbone.stem, network.backbone.c2):
        part.requires_grad_(False)
    step = StoredDraws(network.eval(), RECIPES["coco_r50"]())
    step.arrays = arrays
    sample = make_sample(facts, arrays)
    losses = step([sample])
    losses["total"].backward()
    return Run(facts, arrays, network, sample, {name: loss.detach() for name, loss in losses.items()})


@pytest.mark.parametrize("name", [*NAMES, "total"])
def test_losses(run: Run, name: str) -> None:
    weight = run.facts["loss_weights"].get(NAMES.get(name, ""), 1.0)
    expected = run.facts["losses"][NAMES.get(name, "total")] * weight
    assert run.losses[name].item() == pytest.approx(expected, rel=1e-3)


def test_gradient_norms_of_every_trained_tensor(run: Run) -> None:
    ours = {name: parameter for name, parameter in run.network.named_parameters() if parameter.grad is not None}
    expected = {our_name(name): norm for name, norm in run.facts["grad_norms"].items()}
    assert set(ours) == set(expected)
    for name, norm in expected.items():
        assert float(ours[name].grad.norm()) == pytest.approx(norm, rel=1e-2, abs=1e-7), name
    for key in run.arrays:
        if key.startswith("grad|"):
            gradient = ours[our_name(key.removeprefix("grad|"))].grad
            torch.testing.assert_close(gradient, run.arrays[key], rtol=1e-2, atol=1e-2 * float(run.arrays[key].std()))


def test_maps_at_full_and_quarter_size(run: Run) -> None:
    assert torch.equal(run.sample.semantic, run.arrays["seg_gt"][0].long())
    assert torch.equal(targets.quarter(run.sample.semantic, run.sample.size, 255), run.arrays["seg_gt_4x"][0].long())
    small = targets.quarter(run.sample.masks, run.sample.size, 0)
    inside = run.arrays["mask_gt"] != 255
    assert torch.equal(small[inside], run.arrays["mask_gt"][inside] > 0)


def test_anchor_deltas(run: Run) -> None:
    anchors = run.network.rpn.anchors([(256 // s, 384 // s) for s in STRIDES])
    boxes = run.sample.boxes * run.sample.scale
    torch.testing.assert_close(boxes, run.arrays["gt_boxes_scaled_xyxy"], atol=1e-4, rtol=0)
    labels = flat(run.arrays, "rpn_label")
    _, nearest = targets.prelabel_anchors(torch.cat(anchors), boxes, run.sample.size)
    found = targets.anchor_deltas(torch.cat(anchors), boxes, labels, nearest)
    rows = []
    for stride in STRIDES:  # stored in (anchor, row, column) order
        index = run.arrays[f"rpn_pos_index_fpn{stride}"]
        order = sorted(range(len(index)), key=lambda i, index=index: index[i, [1, 2, 0]].tolist())
        rows += [run.arrays[f"rpn_pos_target_fpn{stride}"][i] for i in order]
    torch.testing.assert_close(found, torch.stack(rows), atol=1e-4, rtol=0)


def test_region_labels_deltas_and_masks(run: Run) -> None:
    scale = run.sample.scale
    stored = run.arrays["rois"][:, 1:]
    regions = targets.describe_regions(stored / scale, run.sample.boxes, run.sample.classes, scale)
    assert torch.equal(regions.labels, run.arrays["roi_labels"])
    assert torch.equal(torch.where(regions.labels > 0)[0], run.arrays["fg_index"])
    torch.testing.assert_close(regions.deltas, run.arrays["fg_bbox_targets"], atol=1e-3, rtol=1e-4)
    drawn = targets.rasterise(run.arrays["mask_rois"][:, 1:], run.sample.polygons, scale)
    assert torch.equal(drawn, run.arrays["mask_targets"].float())


def test_panoptic_target(run: Run) -> None:
    kept = run.arrays["panoptic_keep_inds"].long()
    found = targets.panoptic_target(run.sample.semantic, run.sample.masks, kept, run.sample.size, 53)
    published = run.arrays["panoptic_gt"][0].long()
    assert torch.equal(found, torch.where(published == 255, targets.IGNORE, published))


def test_optimizer_groups_are_the_published_ones(run: Run) -> None:
    names = {id(parameter): name for name, parameter in run.network.named_parameters()}
    groups = parameter_groups(run.network, RECIPES["coco_r50"]())
    ours = {(g["rate"], g["weight_decay"] > 0): {names[id(p)] for p in g["params"]} for g in groups}
    expected: dict[tuple[float, bool], set[str | None]] = {}
    for group in run.facts["optimizer_groups"]:
        key = (float(group["lr_mult"]), group["weight_decay"] == "default")
        expected.setdefault(key, set()).update(our_name(name) for name in group["names"])
    assert ours == {key: group for key, group in expected.items() if group}

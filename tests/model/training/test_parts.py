"""Targets, schedules and initialisation, by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import Checkpoint, CheckpointError, build_network
from model.datasets.load import load_annotations
from model.datasets.records import AnnotationError
from model.interface import categories
from model.interface.categories import Labels
from model.network.upsnet import coco_r50
from model.training import outlines, targets
from model.training.dataset import PanopticDataset, read_annotated
from model.training.initialise import initialise, load_backbone, load_network, map_classes
from model.training.optimizer import CaffeSGD, learning_rate
from model.training.recipe import RECIPES
from model.training.step import mask_targets
from tests.model.training.street import write_street
from tests.paths import DEMO


def test_anchors_are_labelled_by_overlap() -> None:
    anchors = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4], [20, 20, 29, 29], [-1, 0, 8, 9], [0, 2, 9, 11]])
    labels, nearest = targets.prelabel_anchors(anchors, torch.tensor([[0.0, 0, 9, 9]]), (32, 32))
    assert labels.tolist() == [1, -1, 0, -2, -1]
    assert nearest.tolist()[0] == 0
    assert targets.prelabel_anchors(anchors, torch.zeros(0, 4), (32, 32))[0].tolist() == [0, 0, 0, -2, 0]


def test_an_object_that_no_anchor_overlaps_claims_none() -> None:  # quirk Q17 not kept
    anchors = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]])
    boxes = torch.tensor([[0.0, 0, 9, 9], [12, 0, 14, 3]])
    assert targets.prelabel_anchors(anchors, boxes, (32, 32))[0].tolist() == [1, 0]


def test_sampling_keeps_half_and_fills_with_background() -> None:
    labels = torch.cat([torch.ones(200), torch.zeros(500), -torch.ones(9)]).long()
    sampled = targets.sample_anchors(labels)
    assert [(sampled == value).sum().item() for value in (1, 0)] == [128, 128]
    few = targets.sample_anchors(torch.tensor([1, 0, 0, -1, -2]))
    assert few.tolist() == [1, 0, 0, -1, -1]


def test_regions_take_the_class_of_what_they_lie_on() -> None:
    objects = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]])
    regions = torch.tensor([[0.0, 0, 9, 8], [40, 40, 50, 50], [20, 20, 29, 29]])
    found = targets.describe_regions(regions, objects, torch.tensor([3, 5]), 2.0)
    assert found.labels.tolist() == [3, 0, 5]
    assert torch.equal(found.boxes, regions * 2)
    assert found.deltas[1].tolist() == [0, 0, 0, 0]
    assert targets.describe_regions(regions, objects[:0], torch.zeros(0, dtype=torch.long), 1.0).labels.tolist() == [
        0,
        0,
        0,
    ]


def test_mask_targets_cut_the_object_out() -> None:
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[0, 4:12, 4:12] = True
    box = torch.tensor([[4.0, 4, 11, 11]])
    assert targets.mask_targets(box, box, masks)[0, 1:-1, 1:-1].min() == 1  # a corner sees three parts of background
    left = targets.mask_targets(torch.tensor([[4.0, 4, 19, 11]]), box, masks)[0]
    assert left[1:-1, :13].min() == 1
    assert left[:, 15:].max() == 0


def test_polygons_are_drawn_in_the_region_that_overlaps_them_most() -> None:
    square, far = [[4.0, 4, 12, 4, 12, 12, 4, 12]], [[40.0, 40, 50, 40, 50, 50, 40, 50]]
    region = torch.tensor([[8.0, 8, 40, 24]])  # 32 x 16 at twice the size: the square covers columns 8..24, rows 8..24
    drawn = targets.rasterise(region, [far, square], 2.0)[0]
    assert drawn.shape == (28, 28)
    assert drawn[:, :14].min() == 1
    assert drawn[:, 14:].max() == 0


def test_panoptic_target_leaves_unkept_things_to_void() -> None:
    semantic = torch.zeros(8, 16, dtype=torch.long)
    semantic[:, 4:8], semantic[:, 8:12], semantic[:, 12:] = 255, 2, 2
    masks = torch.zeros(2, 8, 16, dtype=torch.bool)
    masks[0, :, 8:12], masks[1, :, 12:] = True, True
    target = targets.panoptic_target(semantic, masks, torch.tensor([1]), (8, 16), 2)
    assert target.tolist() == [[0, 255, 3, 2]] * 2


def test_caffe_momentum_holds_the_rate() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = CaffeSGD([{"params": [weight], "weight_decay": 0.1}], lr=0.5)
    weight.grad = torch.tensor([1.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(weight.data, torch.tensor([1 - 0.5 * 1.1, 2 - 0.5 * 0.2]))
    optimizer.scale_velocity(0.0)
    optimizer.param_groups[0]["lr"] = 0.0
    before = weight.data.clone()
    optimizer.step()
    assert torch.equal(weight.data, before)


def test_schedules() -> None:
    published = RECIPES["coco_r50"]()
    assert learning_rate(published, 0, 0) == pytest.approx(0.002)
    assert learning_rate(published, 1500, 0) == pytest.approx(0.02)
    assert learning_rate(published, 60_000, 0.6) == pytest.approx(0.002)
    four = published.for_processes(4)
    assert (four.learning_rate, four.steps, four.milestones) == (0.005, 360_000, (240_000, 320_000))
    demo = RECIPES["camvid_demo"]()
    assert learning_rate(demo, 3000, 0.5) == pytest.approx(demo.learning_rate / 2)
    assert learning_rate(demo, 3000, 1.0) == pytest.approx(0, abs=1e-12)


def test_samples_are_the_same_again_and_crowds_apart(tmp_path: Path) -> None:
    write_street(tmp_path)
    annotations = load_annotations(tmp_path / "street.json", tmp_path / "photos", tmp_path / "masks")
    recipe = RECIPES["coco_r50"]()
    network = build_network("camvid_demo", annotations.categories)
    dataset = PanopticDataset(annotations, recipe, network.transform)
    first, again = dataset.sample(1, 3), dataset.sample(1, 3)
    assert torch.equal(first.pixels, again.pixels)
    assert first.classes.tolist() == [1, 1]
    assert first.crowd_classes.tolist() == [2]
    assert first.size == (800, 1200)
    assert math.isclose(first.scale, 12.5)
    assert first.masks.shape == (2, 800, 1216)
    photo = read_annotated(annotations.images[0], annotations)
    assert sorted(set(photo.semantic.ravel().tolist())) == [0, 3, 8, 9, 255]


def test_photos_are_upright_as_they_are_served_and_of_their_pngs_size(tmp_path: Path) -> None:
    write_street(tmp_path)
    annotations = load_annotations(tmp_path / "street.json", tmp_path / "photos", tmp_path / "masks")
    record = annotations.images[0]
    upright = Image.open(record.photo)
    exif = Image.Exif()
    exif[274] = 6  # to be turned to the right, as phones write
    upright.transpose(Image.Transpose.ROTATE_90).save(record.photo, exif=exif)
    assert np.array_equal(read_annotated(record, annotations).rgb, np.asarray(upright))
    upright.resize((10, 12)).save(record.photo)
    with pytest.raises(AnnotationError, match=r"0\.png is 10 x 12, its PNG .*0\.png 96 x 64"):
        read_annotated(record, annotations)


def test_imagenet_weights_fill_the_backbone(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    weights = torchvision.models.resnet50(weights=None).state_dict()
    torch.save(weights, tmp_path / "resnet50.pth")
    network = coco_r50(stuff=2, things=2)
    load_backbone(network, tmp_path / "resnet50.pth", "caffe")
    assert torch.equal(network.backbone.stem.conv.weight, weights["conv1.weight"].flip(1))
    assert torch.equal(network.backbone.c5[2].conv3.weight, weights["layer4.2.conv3.weight"])
    del weights["layer1.0.bn1.bias"]
    torch.save(weights, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match=r"missing backbone\.c2\.0\.norm1\.bias"):
        load_backbone(network, tmp_path / "broken.pth", "caffe")


def test_rows_of_coco_classes_move_to_cityscapes() -> None:
    coco, cityscapes = categories.load("coco"), categories.load("cityscapes")
    weights = {}
    for layer, rows in {"semantic_head.logits": 133, "box_head.logits": 81, "box_head.deltas": 324}.items():
        weights[f"{layer}.weight"] = torch.arange(float(rows))[:, None].repeat(1, 2)
        weights[f"{layer}.bias"] = torch.arange(float(rows))
    weights["mask_head.logits.weight"] = torch.arange(81.0)[:, None, None, None].repeat(1, 2, 1, 1)
    weights["mask_head.logits.bias"] = torch.arange(81.0)
    mapped = map_classes(weights, coco, cityscapes)
    semantic = dict(
        zip([label.name for label in cityscapes], mapped["semantic_head.logits.bias"].tolist(), strict=True)
    )
    wanted = {"road": 20, "sidewalk": 43, "building": 49, "wall": 51, "fence": 37, "traffic light": 62}
    wanted |= {"vegetation": 36, "sky": 39, "person": 53, "car": 55, "truck": 60, "bus": 58, "train": 59}
    wanted |= {"motorcycle": 56, "bicycle": 54}
    # a traffic light is a thing on COCO and stuff on Cityscapes: its semantic row moves, no detection row does
    assert {name: semantic[name] for name in wanted} == wanted
    assert mapped["box_head.logits.bias"].tolist()[:2] == [0, 1]
    assert mapped["box_head.logits.bias"].tolist()[3] == 3
    assert mapped["box_head.deltas.bias"].tolist()[12:16] == [12, 13, 14, 15]


def test_offsets_start_at_zero() -> None:
    network = build_network("camvid_demo", categories.load("camvid"))
    initialise(network)
    assert network.semantic_head.layers[0].offset.weight.abs().max() == 0
    assert network.box_head.logits.weight.std() < 0.02


def write_instances(folder: Path) -> Path:
    square = [10.0, 20.0, 40.0, 20.0, 40.0, 44.0, 10.0, 44.0]
    entries = [
        {"segmentation": [square, [1, 2, 3, 4]], "bbox": [10, 20, 31, 25], "area": 700, "iscrowd": 0, "category_id": 9},
        {"segmentation": {"counts": [9], "size": [64, 96]}, "bbox": [80, 0, 40, 9], "iscrowd": 1, "category_id": 10},
        {"segmentation": [square], "bbox": [10, 20, 1, 25], "area": 20, "iscrowd": 0, "category_id": 9},
    ]
    annotations = [{"id": i, "image_id": 0, "area": 300, **entry} for i, entry in enumerate(entries)]
    images = [{"id": number, "width": 96, "height": 64} for number in range(4)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_outlines_replace_boxes_masks_and_polygons(tmp_path: Path) -> None:
    write_street(tmp_path)
    annotations = load_annotations(tmp_path / "street.json", tmp_path / "photos", tmp_path / "masks")
    found = outlines.load_outlines(write_instances(tmp_path), annotations.categories)
    assert [(outline.kind, outline.box, outline.iscrowd) for outline in found[0]] == [
        (1, (10, 20, 40, 44), False),  # a ring of two points is dropped, a box of one column is no box
        (2, (80, 0, 95, 8), True),  # cut at the photo
    ]
    network = build_network("camvid_demo", annotations.categories)
    recipe = replace(RECIPES["coco_r50"](), short_sides=(64,))
    dataset = PanopticDataset(annotations, recipe, network.transform, found)
    plain, flipped = (next(s for e in range(9) if (s := dataset.sample(0, e)).boxes[0, 0] == x) for x in (10, 55))
    assert flipped.boxes.tolist() == [[55, 20, 85, 44]]
    assert plain.masks.sum() == 31 * 25  # PIL fills both ends
    assert torch.equal(plain.masks.flip(2), flipped.masks)
    assert flipped.crowd_boxes.tolist() == [[0, 0, 15, 8]]
    assert mask_targets(plain.boxes, plain).mean() > 0.9


def test_a_thing_without_polygons_is_refused(tmp_path: Path) -> None:
    write_street(tmp_path)
    annotations = load_annotations(tmp_path / "street.json", tmp_path / "photos", tmp_path / "masks")
    path = write_instances(tmp_path)
    path.write_text(path.read_text().replace('"iscrowd": 1', '"iscrowd": 0'))
    with pytest.raises(AnnotationError, match="annotation 1 is no crowd and has no polygons"):
        outlines.load_outlines(path, annotations.categories)


def test_an_archive_starts_a_run() -> None:
    labels = categories.load("camvid")
    network = build_network("camvid_demo", labels)
    load_network(network, DEMO, labels)
    archived = Checkpoint.of_archive(DEMO).weights
    assert all(torch.equal(tensor, archived[name]) for name, tensor in network.state_dict().items())
    fewer = Labels(tuple(label for label in labels if label.name != "bicyclist"))
    small = build_network("camvid_demo", fewer)
    load_network(small, DEMO, fewer)
    assert torch.equal(small.box_head.logits.bias, network.box_head.logits.bias[:3])

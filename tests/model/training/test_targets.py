"""Targets of the heads, worked out by hand."""

import pytest
import torch

from model.training import targets


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
    nothing = targets.describe_regions(regions, objects[:0], torch.zeros(0, dtype=torch.long), 1.0)
    assert nothing.labels.tolist() == [0, 0, 0]


def test_the_share_of_a_box_is_that_of_its_pixels() -> None:
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[2:6, 3:9] = True
    mask[3, 4] = False
    boxes = torch.tensor(
        [[3.0, 2, 8, 5], [0, 0, 11, 7], [0, 0, 2, 7], [8, 5, 9, 6], [11, 7, 11, 7], [3.5, 2.25, 4.5, 3]]
    )
    for box, share in zip(boxes.tolist()[:5], targets.covered_share(boxes, mask)[:5], strict=True):
        x1, y1, x2, y2 = (int(side) for side in box)
        assert share.item() == mask[y1 : y2 + 1, x1 : x2 + 1].float().mean().item()
    # between pixels: columns 3.5 to 5.5 and rows 2.25 to 4, of which the hole has 1 x 1 pixels
    assert targets.covered_share(boxes, mask)[5].item() == pytest.approx((2 * 1.75 - 1) / (2 * 1.75))
    torch.manual_seed(0)
    mask, corner = torch.rand(40, 50) < 0.3, torch.rand(200, 2) * torch.tensor([49.0, 39.0])
    far = corner + torch.rand(200, 2) * (torch.tensor([49.0, 39.0]) - corner)
    fine = mask.repeat_interleave(16, 0).repeat_interleave(16, 1)  # sixteenths of a pixel, counted one by one
    boxes = (torch.cat([corner, far], 1) * 16).round() / 16
    for box, share in zip((boxes * 16).int().tolist(), targets.covered_share(boxes, mask), strict=True):
        counted = fine[box[1] : box[3] + 16, box[0] : box[2] + 16].double().mean()
        assert share.item() == pytest.approx(counted.item(), abs=1e-6)
    assert len(targets.covered_share(boxes[:0], mask)) == 0


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
    assert target.tolist() == [[0, targets.IGNORE, 3, 2]] * 2


def test_more_objects_than_a_byte_counts_have_a_channel_each() -> None:
    semantic = torch.full((4, 4 * 301), 1)
    semantic[:, -4:] = 255
    masks = torch.zeros(300, *semantic.shape, dtype=torch.bool)
    for number, mask in enumerate(masks):
        mask[:, 4 * number : 4 * number + 4] = True
    kept = torch.arange(299)  # the last one is void's
    target = targets.panoptic_target(semantic, masks, kept, (4, 4 * 301), 1)
    assert target.tolist() == [[*range(1, 300), 300, targets.IGNORE]]


def test_panoptic_logits_are_stuff_objects_and_void() -> None:
    semantic = torch.zeros(3, 4, 4)  # one class of stuff, two of things
    semantic[0], semantic[1], semantic[2] = 1, 2, 5
    box = torch.tensor([[0.0, 0, 7, 7]])  # the upper left quarter at stride 4
    logits = targets.panoptic_logits(semantic, box, torch.tensor([1]), torch.full((1, 28, 28), 0.5), 1)
    assert logits.shape == (3, 4, 4)
    assert logits[:, 0, 0].tolist() == [1, 2.5, 3]  # stuff; semantic and mask; the best thing less the object's own
    assert logits[:, 3, 3].tolist() == [1, 0, 5]
    empty = targets.panoptic_logits(semantic, box[:0], torch.zeros(0), torch.zeros(0, 28, 28), 1)
    assert empty[:, 0, 0].tolist() == [1, 5]


def test_a_mask_pasted_over_the_edge_is_cut() -> None:
    pasted = targets.paste(torch.ones(28, 28), torch.tensor([2.0, 1, 5, 2]), 4, 4)
    assert pasted.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]

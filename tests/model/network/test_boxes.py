"""Box arithmetic by hand."""

import pytest
import torch

from model.network import boxes as box_ops


def test_boxes_cover_their_far_edge() -> None:  # quirk Q2
    assert box_ops.areas(torch.tensor([[2.0, 3, 4, 3]])).tolist() == [3.0]
    pair = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[5.0, 0, 14, 9]])
    assert box_ops.intersections(*pair).item() == 50
    assert box_ops.iou(*pair).item() == pytest.approx(50 / 150)


def test_decoding_undoes_encoding() -> None:
    boxes, targets = torch.tensor([[0.0, 0, 9, 19]]), torch.tensor([[3.0, 1, 30, 12]])
    deltas = box_ops.encode(boxes, targets, box_ops.BOX_WEIGHTS)
    torch.testing.assert_close(box_ops.decode(boxes, deltas, box_ops.BOX_WEIGHTS), targets)


def test_a_box_grows_by_a_bounded_factor() -> None:
    huge = box_ops.decode(torch.tensor([[0.0, 0, 9, 19]]), torch.tensor([[0.0, 0, 100, 0]]))
    assert float(huge[0, 2] - huge[0, 0] + 1) == pytest.approx(10 * 1000 / 16)


def test_boxes_are_clipped_to_the_last_pixel() -> None:
    clipped = box_ops.clip(torch.tensor([[-3.0, 2, 50, 60]]), box_ops.limits([(20, 30)], torch.zeros(1)))
    assert clipped.tolist() == [[0, 2, 29, 19]]


def test_equal_overlap_survives_suppression() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 4]])  # IoU exactly 0.5
    assert box_ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert box_ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.49).tolist() == [0]
    assert box_ops.nms(boxes[:0], torch.zeros(0), 0.5).tolist() == []


def test_groups_are_suppressed_apart() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 4]])
    assert box_ops.batched_nms(torch.stack([boxes, boxes + 20]), 0.5).tolist() == [[True, True], [True, True]]
    assert box_ops.batched_nms(torch.stack([boxes, boxes + 20]), 0.49).tolist() == [[True, False], [True, False]]
    assert box_ops.batched_nms(boxes[None, :0], 0.5).shape == (1, 0)


def test_the_best_are_the_same_alone_and_in_a_batch_ties_included() -> None:
    scores = torch.randint(0, 20, (3, 500), generator=torch.Generator().manual_seed(0)) / 20.0
    scores[1, ::3] = -1
    values, order = box_ops.top_scores(scores, 60)
    for i in range(3):
        wanted = torch.sort(scores[i], descending=True, stable=True)
        assert torch.equal(order[i], wanted[1][:60])
        assert torch.equal(values[i], wanted[0][:60])
        assert torch.equal(order[i], box_ops.top_scores(scores[i : i + 1], 60)[1][0])


def test_the_best_of_few_are_all() -> None:
    values, order = box_ops.top_scores(torch.tensor([[0.25, 0.5]]), 7)
    assert (values.tolist(), order.tolist()) == ([[0.5, 0.25]], [[1, 0]])


def test_rows_are_gathered_for_each_image() -> None:
    rows = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert box_ops.gather_rows(rows, torch.tensor([[1], [0]])).tolist() == [[[3, 4]], [[5, 6]]]


def test_masks_are_truncated_and_semantic_logits_rounded() -> None:  # quirk Q8
    box = torch.tensor([1.9, 2.2, 4.6, 3.4])
    assert box_ops.mask_window(box) == (2, 1, 2, 4)  # rows 2 and 3, columns 1 to 4
    assert box_ops.semantic_window(box) == (2, 1, 4, 6)  # rows 2 and 3, columns 1 to 5
    assert box_ops.mask_window(torch.tensor([3.0, 3.0, 1.0, 1.0])) == (3, 3, 1, 1)

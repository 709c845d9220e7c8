"""Anchors of one cell, and of all cells of a level."""

import torch

from model.archive import quiet
from model.network.anchors import Anchors, cell_anchors


def test_anchors_of_stride_16_are_the_published_ones() -> None:  # quirk Q3
    wanted = [[-84.0, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]]
    assert cell_anchors(16, 8, [0.5, 1, 2]).tolist() == wanted


def test_anchors_go_along_the_columns_then_down_the_rows() -> None:
    level = Anchors([16], 8, [0.5, 1, 2])([(2, 3)])[0]
    assert level.shape == (18, 4)
    assert (level[3] - level[0]).tolist() == [16, 0, 16, 0]  # next column
    assert (level[9] - level[0]).tolist() == [0, 16, 0, 16]  # next row


def test_each_level_has_its_own_stride_scripted_too() -> None:
    anchors = Anchors([4, 8], 1, [1.0])
    sizes = [(1, 2), (1, 1)]
    with quiet():
        scripted = torch.jit.script(anchors)
    for found in (anchors(sizes), scripted(sizes)):
        assert [level.tolist() for level in found] == [[[0, 0, 3, 3], [4, 0, 7, 3]], [[0, 0, 7, 7]]]

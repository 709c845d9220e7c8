"""Anchors: the boxes that the proposal network refines."""

import math

import torch
from torch import Tensor, nn


def cell_anchors(stride: int, scale: float, ratios: list[float]) -> Tensor:
    """Anchors of the top-left cell.

    The window (0, 0, stride - 1, stride - 1) is reshaped to each height / width ratio with sides rounded half to even,
    then scaled about its centre (stride - 1) / 2 (quirk Q3).

    Returns:
        (len(ratios), 4) float32, xyxy.
    """
    centre = (stride - 1) / 2
    rows = []
    for ratio in ratios:
        width = round(math.sqrt(stride * stride / ratio))
        height = round(width * ratio)
        half_width, half_height = (width * scale - 1) / 2, (height * scale - 1) / 2
        rows.append([centre - half_width, centre - half_height, centre + half_width, centre + half_height])
    return torch.tensor(rows, dtype=torch.float32)


class Anchors(nn.Module):
    """Anchors of every cell of every pyramid level.

    Args:
        strides: strides of the levels, pixels.
        scale: side of a square anchor, in strides.
        ratios: height / width of each anchor of a cell.
    """

    cells: Tensor

    def __init__(self, strides: list[int], scale: float, ratios: list[float]) -> None:
        super().__init__()
        self.strides = strides
        cells = torch.stack([cell_anchors(stride, scale, ratios) for stride in strides])
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Anchors of levels of these heights and widths: (h w A, 4) each, in the order of row, column, ratio."""
        levels: list[Tensor] = []
        for i, size in enumerate(sizes):
            y = torch.arange(size[0], device=self.cells.device) * self.strides[i]
            x = torch.arange(size[1], device=self.cells.device) * self.strides[i]
            shift_y, shift_x = torch.meshgrid([y, x], indexing="ij")
            shifts = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=-1)  # (h, w, 4)
            levels.append((shifts[:, :, None] + self.cells[i]).view(-1, 4))
        return levels

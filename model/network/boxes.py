"""Box arithmetic in float32, with inclusive ends as in the published network.

A box (x1, y1, x2, y2) covers x2 - x1 + 1 columns (quirk Q2). Boxes are (..., 4) xyxy in pixels.
"""

import math

import torch
import torchvision
from torch import Tensor

from model import ops

Weights = tuple[float, float, float, float]

PROPOSAL_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)  # of the deltas x, y, width and height of an anchor
BOX_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)  # of those of a proposal, for a class


def areas(boxes: Tensor) -> Tensor:
    """(N, 4) -> (N,) pixels covered."""
    return (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """(A, 4), (B, 4) -> (A, B) pixels covered by both."""
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = (bottom_right - top_left + 1).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(A, 4), (B, 4) -> (A, B) intersection over union."""
    intersection = intersections(a, b)
    return intersection / (areas(a)[:, None] + areas(b)[None, :] - intersection)


def encode(boxes: Tensor, targets: Tensor, weights: Weights = PROPOSAL_WEIGHTS) -> Tensor:
    """The deltas that move `boxes` (N, 4) to `targets` (N, 4), times the weights, as (N, 4)."""
    width = boxes[:, 2] - boxes[:, 0] + 1
    height = boxes[:, 3] - boxes[:, 1] + 1
    target_width = targets[:, 2] - targets[:, 0] + 1
    target_height = targets[:, 3] - targets[:, 1] + 1
    dx = weights[0] * (targets[:, 0] + 0.5 * target_width - boxes[:, 0] - 0.5 * width) / width
    dy = weights[1] * (targets[:, 1] + 0.5 * target_height - boxes[:, 1] - 0.5 * height) / height
    dw = weights[2] * torch.log(target_width / width)
    dh = weights[3] * torch.log(target_height / height)
    return torch.stack([dx, dy, dw, dh], dim=1)


def decode(boxes: Tensor, deltas: Tensor, weights: Weights = PROPOSAL_WEIGHTS) -> Tensor:
    """Move boxes by deltas.

    Args:
        boxes: (N, 4).
        deltas: (N, 4 K), K moves of each box; a log ratio is capped at log(1000 / 16).
        weights: the four numbers that the deltas were multiplied by.

    Returns:
        (N, 4 K).
    """
    width = (boxes[:, 2] - boxes[:, 0] + 1)[:, None]
    height = (boxes[:, 3] - boxes[:, 1] + 1)[:, None]
    x = boxes[:, 0:1] + 0.5 * width
    y = boxes[:, 1:2] + 0.5 * height
    moves = deltas.view(deltas.size(0), -1, 4)
    x = moves[..., 0] / weights[0] * width + x
    y = moves[..., 1] / weights[1] * height + y
    limit = math.log(1000.0 / 16.0)
    width = torch.exp((moves[..., 2] / weights[2]).clamp(max=limit)) * width
    height = torch.exp((moves[..., 3] / weights[3]).clamp(max=limit)) * height
    corners = [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width - 1, y + 0.5 * height - 1]
    return torch.stack(corners, dim=-1).flatten(1)


def limits(sizes: list[tuple[int, int]], like: Tensor) -> Tensor:
    """The largest x1, y1, x2, y2 in images of these heights and widths: (N, 4) float32 on the device of a tensor."""
    numbers: list[float] = []
    for height, width in sizes:
        numbers += [width - 1.0, height - 1.0, width - 1.0, height - 1.0]
    return ops.numbers(numbers, like).view(-1, 4)


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes (..., 4) moved between 0 and their limits, which broadcast to (..., 4)."""
    return torch.minimum(boxes.clamp(min=0), limits)


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices that greedy suppression keeps, by descending score; only an IoU above the threshold suppresses."""
    inclusive = torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)
    kept: Tensor = torchvision.ops.nms(inclusive, scores, threshold)
    return kept


def batched_nms(boxes: Tensor, threshold: float) -> Tensor:
    """Suppression in many groups at once: (G, K, 4), each by descending score -> (G, K) whether a box is kept."""
    inclusive = torch.cat([boxes[..., :2], boxes[..., 2:] + 1], dim=-1)
    return ops.nms(inclusive, threshold)


def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row; equal ones by index, so that no batch and no device changes their order.

    Args:
        scores: (N, M) float32, at least 0; -1 marks what comes last.
        count: how many scores of a row are taken at most.

    Returns:
        (N, K) scores, descending, and their (N, K) indices.
    """
    last = scores.size(1) - 1
    index = torch.arange(scores.size(1), device=scores.device)
    bits = ops.reinterpret(scores, torch.int32).long()  # bits of such numbers are ordered as the numbers are
    keys = (bits * 4294967296 + (last - index)).topk(min(count, scores.size(1)), dim=1)[0]
    order = last - keys % 4294967296
    return scores.gather(1, order), order


def gather_rows(rows: Tensor, order: Tensor) -> Tensor:
    """The rows that the indices name: (N, M, C), (N, K) -> (N, K, C)."""
    return rows.gather(1, order[..., None].expand(-1, -1, rows.size(2)))


def mask_window(box: Tensor) -> tuple[int, int, int, int]:
    """Top row, left column, height and width of a box's mask: its ends truncated (quirk Q8), at least one pixel."""
    x1, y1, x2, y2 = int(box[0]), int(box[1]), int(box[2]), int(box[3])
    return y1, x1, max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)


def semantic_window(box: Tensor) -> tuple[int, int, int, int]:
    """Top row, left column, end row and end column of a box's semantic logits: its far ends rounded (quirk Q8)."""
    return int(box[1]), int(box[0]), int(box[3].round()) + 1, int(box[2].round()) + 1

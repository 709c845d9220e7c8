"""A picture of an answer: the photo, its segments in the dataset's colours, outlines and names."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.interface.panoptic import Panoptic, Pixels

OPACITY = 0.5
LABELLED_SHARE = 0.002
"""Segments below this share of the picture get no label: it would hide them."""
PIXELS_A_LINE = 700
"""Pixels of the shorter side for each pixel of an outline's width: on a photo of 10 Mpx a thin line cannot be seen."""
BAND_PIXELS = 250_000
"""Pixels that are mixed at a time: a whole picture in floating point would take sixteen times its memory."""


def draw_overlay(image: Pixels, panoptic: Panoptic, colors: Mapping[int, tuple[int, int, int]]) -> Pixels:
    """The photo with an answer drawn over it.

    Args:
        image: (H, W, 3) uint8.
        panoptic: the answer to that image.
        colors: RGB by category id.

    Returns:
        (H, W, 3) uint8; void keeps the photo, greyed.
    """
    ids = panoptic.segment_ids
    palette = np.zeros((256, 3), np.float32)
    for segment in panoptic.segments:
        palette[segment.id] = shade(colors[segment.category_id], segment.id if segment.isthing else 0)
    edge = outlines(ids, max(1, min(ids.shape) // PIXELS_A_LINE))
    painted = np.empty_like(image)
    rows = max(1, BAND_PIXELS // ids.shape[1])
    for top in range(0, len(ids), rows):
        band = slice(top, top + rows)
        paint = palette[ids[band]]
        void = ids[band] == 0
        paint[void] = image[band][void].mean(axis=1, keepdims=True)
        mixed = image[band] * (1 - OPACITY) + paint * OPACITY
        mixed[edge[band]] = 255
        painted[band] = mixed
    picture = Image.fromarray(painted)
    del painted, edge  # so that a very large picture is not held three times
    label_segments(picture, panoptic)
    return np.asarray(picture)


def shade(color: tuple[int, int, int], instance: int) -> NDArray[np.float32]:
    """RGB of one instance: its category's, lighter or darker by the instance's number; 0 keeps it."""
    factor = (1.0, 1.35, 0.75, 1.6, 0.9)[instance % 5] if instance else 1.0
    mixed: NDArray[np.float32] = np.array(color, np.float32) * factor + (20 if factor > 1 else 0)
    return mixed.clip(0, 255)


def outlines(ids: Pixels, width: int = 1) -> NDArray[np.bool_]:
    """(H, W) bool: where the right or lower neighbour is another segment, widened to a number of pixels."""
    edge = np.zeros(ids.shape, bool)
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edge[:-1] |= ids[:-1] != ids[1:]
    for i in range(width - 1):  # to the right and down, to the left and up, in turn
        to, of = (slice(1, None), slice(None, -1)) if i % 2 == 0 else (slice(None, -1), slice(1, None))
        edge[:, to] |= edge[:, of]
        edge[to] |= edge[of]
    return edge


def label_segments(picture: Image.Image, panoptic: Panoptic) -> None:
    """Write names and scores on the picture, dark on a light plate, the largest segment first.

    A label that would cover another, or does not fit into the picture, is left out.
    """
    draw = ImageDraw.Draw(picture)
    size = max(11, round(min(picture.size) / 36))
    font = ImageFont.load_default(size)
    taken: list[tuple[float, float, float, float]] = []
    for segment in sorted(panoptic.segments, key=lambda one: -one.area):
        if segment.area < LABELLED_SHARE * picture.width * picture.height:
            continue
        text = f"{segment.category} {segment.score:.2f}"
        x, y = anchor(panoptic.segment_ids == segment.id)
        left, top, right, bottom = draw.textbbox((x, y), text, font, anchor="mm")
        dx = max(0, 2 - left) - max(0, right + 2 - picture.width)
        dy = max(0, 2 - top) - max(0, bottom + 2 - picture.height)
        plate = (left + dx - 2, top + dy - 1, right + dx + 2, bottom + dy + 1)
        if plate[0] < 0 or plate[1] < 0 or plate[2] > picture.width or plate[3] > picture.height:
            continue
        if any(plate[0] < o[2] and o[0] < plate[2] and plate[1] < o[3] and o[1] < plate[3] for o in taken):
            continue
        taken.append(plate)
        draw.rectangle(plate, fill=(255, 255, 255))
        draw.text((x + dx, y + dy), text, (20, 20, 20), font, anchor="mm")


def anchor(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """x, y of a pixel of the mask, near the middle of its longest run in the mask's median row."""
    ys = np.nonzero(mask.any(axis=1))[0]
    counts = mask[ys].sum(axis=1).cumsum()
    y = int(ys[np.searchsorted(counts, counts[-1] / 2)])
    padded = np.concatenate([[False], mask[y], [False]])
    edges = np.nonzero(padded[1:] != padded[:-1])[0].reshape(-1, 2)
    start, stop = edges[(edges[:, 1] - edges[:, 0]).argmax()]
    return int((start + stop) // 2), y

"""Boxes and polygons of a COCO instances file, which the published networks were trained on."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from model.datasets.records import AnnotationError
from model.interface.categories import Labels


class Outline(NamedTuple):
    """One annotated thing.

    Attributes:
        kind: class 1..T.
        box: xyxy in pixels of the photo, ends inclusive.
        iscrowd: whether it is a group whose instances are not told apart.
        polygons: rings, each x, y, x, y, ... in pixels of the photo; none for a crowd.
    """

    kind: int
    box: tuple[float, float, float, float]
    iscrowd: bool
    polygons: list[list[float]]


def load_outlines(path: Path, labels: Labels) -> dict[int, list[Outline]]:
    """The usable things of each photo, by image id.

    Args:
        path: COCO instances JSON.
        labels: the classes of the data set.

    Raises:
        AnnotationError: it is no such JSON, or a thing that is no crowd has no polygons.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
        outlines: dict[int, list[Outline]] = {number: [] for number in sizes}
        for entry in content["annotations"]:
            outline = _outline(entry, labels.things, *sizes[entry["image_id"]])
            if outline:
                outlines[entry["image_id"]].append(outline)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise AnnotationError(f"{path} is not a COCO instances file: {reason}") from error
    return outlines


def _outline(entry: dict[str, Any], things: Labels, width: int, height: int) -> Outline | None:
    crowd = bool(entry.get("iscrowd", 0))
    polygons = []
    if not crowd:
        if not isinstance(entry["segmentation"], list):
            raise ValueError(f"annotation {entry['id']} is no crowd and has no polygons")
        polygons = [ring for ring in entry["segmentation"] if len(ring) >= 6]
    x, y, w, h = entry["bbox"]
    x1, y1 = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    x2, y2 = min(x + max(w - 1, 0.0), width - 1.0), min(y + max(h - 1, 0.0), height - 1.0)
    usable = entry["area"] > 0 and x2 > x1 and y2 > y1 and not entry.get("ignore", 0) and (polygons or crowd)
    return Outline(things.index[entry["category_id"]] + 1, (x1, y1, x2, y2), crowd, polygons) if usable else None


def flip(outline: Outline, width: int) -> Outline:
    """The outline in a photo of this width with left and right exchanged."""
    x1, y1, x2, y2 = outline.box
    polygons = [[value if i % 2 else width - value - 1 for i, value in enumerate(ring)] for ring in outline.polygons]
    return outline._replace(box=(width - x2 - 1, y1, width - x1 - 1, y2), polygons=polygons)


def draw(polygons: list[list[float]], height: int, width: int) -> Tensor:
    """(H, W) bool mask: the polygons filled, with their edges."""
    canvas = Image.new("L", (width, height))
    for ring in polygons:
        ImageDraw.Draw(canvas).polygon(ring, outline=1, fill=1)
    return torch.tensor(np.asarray(canvas)).bool()

"""Boxes and polygons of a COCO instances file, which the published networks were trained on."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from model.datasets.json_file import image_id, read_object
from model.datasets.records import AnnotationError, Annotations, ImageId
from model.interface import json_fields as fields
from model.interface.categories import Labels

KIND = "a COCO instances file"
SIZE = ("width", "height")


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


def load_outlines(path: Path, annotations: Annotations) -> dict[ImageId, list[Outline]]:
    """The usable things of each photo, by image id.

    Args:
        path: COCO instances JSON.
        annotations: the photos that it describes once more, and the classes of the data set.

    Raises:
        AnnotationError: it is no such JSON, its ids or classes are not those of the annotations, or an entry is wrong.
    """
    content = read_object(path, KIND, ("images", "annotations"))
    try:
        _check_names(content.get("categories", []), annotations.categories)
        sizes = _sizes(content, annotations)
        outlines: dict[ImageId, list[Outline]] = {number: [] for number in sizes}
        for place, entry in enumerate(fields.entries(content["annotations"], "annotations")):
            what = f"annotations[{place}]"
            number = image_id(entry, "image_id", what, next(iter(sizes), None))
            if number not in sizes:
                raise ValueError(f"{what} is of image {fields.show(number)}, which is not listed in images")
            outline = _outline(entry, what, annotations.categories.things, *sizes[number])
            if outline:
                outlines[number].append(outline)
    except ValueError as error:
        raise AnnotationError(f"{path}: {error}.") from error
    return outlines


def _check_names(categories: Any, labels: Labels) -> None:
    """Refuse a file whose class of some id has another name than the data set's."""
    names = dict(zip(labels.ids, labels.names, strict=True))
    for place, entry in enumerate(fields.entries(categories, "categories")):
        what = f"categories[{place}]"
        number = fields.whole(fields.get(entry, "id", what), f"{what}: id")
        if names.get(number, entry.get("name")) != entry.get("name"):
            raise ValueError(f"category {number} is {fields.show(entry.get('name'))}, and not {names[number]}")


def _sizes(content: dict[str, Any], annotations: Annotations) -> dict[ImageId, tuple[int, int]]:
    """Width and height of each listed image."""
    sizes: dict[ImageId, tuple[int, int]] = {}
    other = annotations.images[0].id if annotations.images else None
    for place, entry in enumerate(fields.entries(content["images"], "images")):
        what = f"images[{place}]"
        number = image_id(entry, "id", what, other)
        if number in sizes:
            raise ValueError(f"image {fields.show(number)} is listed twice in images")
        width, height = (fields.whole(fields.get(entry, name, what), f"{what}: {name}", 1) for name in SIZE)
        sizes[number] = (width, height)
    return sizes


def _outline(entry: dict[str, Any], what: str, things: Labels, width: int, height: int) -> Outline | None:
    if "segments_info" in entry:
        raise ValueError(f"{what} has segments_info; expected {KIND}, with boxes and outlines")
    category = fields.whole(fields.get(entry, "category_id", what), f"{what}: category_id")
    if category not in things.index:
        raise ValueError(f"{what} has category {category}, which is no thing of the data set")
    crowd, ignored = (fields.flag(entry.get(name, 0), f"{what}: {name}") for name in ("iscrowd", "ignore"))
    polygons = [] if crowd else _polygons(entry, what)
    box = fields.entries(fields.get(entry, "bbox", what), f"{what}: bbox")
    if len(box) != 4:
        raise ValueError(f"{what}: bbox has {len(box)} numbers; expected x, y, width and height")
    x, y, w, h = (fields.real(value, f"{what}: a number of bbox") for value in box)
    x1, y1 = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    x2, y2 = min(x + max(w - 1, 0.0), width - 1.0), min(y + max(h - 1, 0.0), height - 1.0)
    area = fields.real(fields.get(entry, "area", what), f"{what}: area")
    usable = area > 0 and x2 > x1 and y2 > y1 and not ignored and (polygons or crowd)
    return Outline(things.index[category] + 1, (x1, y1, x2, y2), crowd, polygons) if usable else None


def _polygons(entry: dict[str, Any], what: str) -> list[list[float]]:
    """The rings of a thing that have three points or more."""
    rings = fields.get(entry, "segmentation", what)
    if not isinstance(rings, list):
        raise ValueError(f"{what} is no crowd and has no polygons")
    for ring in rings:
        for value in fields.entries(ring, f"{what}: a polygon"):
            fields.real(value, f"{what}: a number of a polygon")
        if len(ring) % 2:
            raise ValueError(f"{what}: a polygon has {len(ring)} numbers; expected pairs")
    return [ring for ring in rings if len(ring) >= 6]


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

"""COCO-panoptic folders: a JSON of segments beside folders of photos and of id PNGs."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.datasets.json_file import image_id, read_object
from model.datasets.records import AnnotationError, Annotations, ImageId, ImageRecord, SegmentRecord
from model.interface import categories
from model.interface import json_fields as fields
from model.interface.categories import Labels

KIND = "a COCO-panoptic file"
MAX_ID = 256**3 - 1


def load_panoptic_folder(path: Path, photos: Path, masks: Path) -> Annotations:
    """The annotated photos that a COCO-panoptic JSON lists.

    Args:
        path: the JSON.
        photos: folder of the photos.
        masks: folder of the id PNGs.

    Raises:
        AnnotationError: it is no such JSON, contradicts itself, or names a file that does not exist; the message names
            the JSON and what is wrong in it.
    """
    content = read_object(path, KIND, ("images", "annotations", "categories"))
    try:
        labels = _labels(content)
        records = tuple(_images(content, labels, photos, masks))
        _refuse_twice(records)
    except ValueError as error:
        raise AnnotationError(f"{path}: {error}.") from error
    return Annotations(labels, records, str(path))


def _labels(content: dict[str, Any]) -> Labels:
    for entry in fields.entries(content["annotations"], "annotations")[:1]:
        if isinstance(entry, dict) and "segments_info" not in entry and ("bbox" in entry or "segmentation" in entry):
            raise ValueError(f"its annotations are boxes or outlines of instances; expected {KIND}, with segments_info")
    labels = categories.parse(fields.entries(content["categories"], "categories"))
    if not len(labels):
        raise ValueError("categories is empty")
    for name, count in Counter(labels.names).items():
        if count > 1:
            ids = ", ".join(str(label.id) for label in labels if label.name == name)
            raise ValueError(f"categories {ids} have one name, {fields.show(name)}")
    return labels


def _images(content: dict[str, Any], labels: Labels, photos: Path, masks: Path) -> Iterator[ImageRecord]:
    files: dict[ImageId, Any] = {}
    for place, entry in enumerate(fields.entries(content["images"], "images")):
        number = image_id(entry, "id", f"images[{place}]", next(iter(files), None))
        if number in files:
            raise ValueError(f"image {fields.show(number)} is listed twice in images")
        files[number] = entry
    annotated = set()
    for place, entry in enumerate(content["annotations"]):
        number = image_id(entry, "image_id", f"annotations[{place}]", next(iter(files), None))
        what = f"image {fields.show(number)}"
        if number not in files:
            raise ValueError(f"{what} has segments and is not listed in images")
        if number in annotated:
            raise ValueError(f"{what} has two annotations")
        annotated.add(number)
        segments = tuple(_segments(entry, what, labels))
        photo = fields.text(fields.get(files[number], "file_name", what), f"{what}: file_name")
        mask = fields.text(fields.get(entry, "file_name", f"{what}: its annotation"), f"{what}: file_name of its PNG")
        yield ImageRecord(number, _find(photos, [photo], what), _find(masks, _png_names(mask), what), segments)


def _segments(annotation: dict[str, Any], what: str, labels: Labels) -> Iterator[SegmentRecord]:
    seen = set()
    listed = fields.entries(fields.get(annotation, "segments_info", what), f"{what}: segments_info")
    for place, entry in enumerate(listed):
        where = f"{what}: segments_info[{place}]"
        number = fields.whole(fields.get(entry, "id", where), f"{where}: id", 1, MAX_ID)
        where = f"{what}: segment {number}"
        if number in seen:
            raise ValueError(f"{where} appears twice")
        seen.add(number)
        category = fields.whole(fields.get(entry, "category_id", where), f"{where}: category_id")
        if category not in labels.index:
            raise ValueError(f"{where} has unknown category {category}")
        yield SegmentRecord(number, category, fields.flag(entry.get("iscrowd", 0), f"{where}: iscrowd"))


def _png_names(name: str) -> list[str]:
    """Where the PNG of an annotation may be; some tools write the name of the photo."""
    stem, ending = os.path.splitext(name)
    return [stem + ".png", name] if ending.lower() in (".jpg", ".jpeg") else [name]


def _find(folder: Path, names: list[str], what: str) -> Path:
    """The first file of these names in a folder or below it; a backslash may stand between folders, as in Windows."""
    for name in names:
        for spelled in (name, name.replace("\\", "/")):
            relative = os.path.normpath(spelled)
            if os.path.isabs(relative) or relative.split("/")[0] == "..":
                raise ValueError(f"{what}: file_name {fields.show(name)} leads out of {folder}")
            if os.path.isfile(folder / relative):
                return folder / relative
    raise ValueError(f"{what}: {folder / names[-1]} does not exist")


def _refuse_twice(records: tuple[ImageRecord, ...]) -> None:
    """Refuse a photo with two ids, and a PNG of two photos."""
    owners: dict[Path, ImageId] = {}
    for kind, files in (("photo", [record.photo for record in records]), ("PNG", [record.mask for record in records])):
        owners.clear()
        for record, file in zip(records, files, strict=True):
            if file in owners:
                first, second = fields.show(owners[file]), fields.show(record.id)
                raise ValueError(f"images {first} and {second} have one {kind}, {file}")
            owners[file] = record.id

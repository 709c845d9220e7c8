"""COCO-panoptic folders: a JSON of segments beside folders of photos and of id PNGs."""

import json
from pathlib import Path
from typing import Any

from model.datasets.records import AnnotationError, Annotations, ImageRecord, SegmentRecord
from model.interface import categories


def load_panoptic_folder(path: Path, photos: Path, masks: Path) -> Annotations:
    """The annotated photos that a COCO-panoptic JSON lists.

    Args:
        path: the JSON.
        photos: folder of the photos.
        masks: folder of the id PNGs.

    Raises:
        AnnotationError: it is no such JSON, a file is missing, or a segment has an unknown category or appears twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = categories.parse(content["categories"])
        files = {entry["id"]: entry["file_name"] for entry in content["images"]}
        records = tuple(_image(entry, files, photos, masks) for entry in content["annotations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise AnnotationError(f"{path} is not a COCO-panoptic file: {reason}") from error
    for record in records:
        for file in (record.photo, record.mask):
            if not file.is_file():
                raise AnnotationError(f"{path}: image {record.id}: {file} does not exist.")
        ids = [segment.id for segment in record.segments]
        for segment in record.segments:
            if segment.category_id not in labels.index:
                raise AnnotationError(
                    f"{path}: image {record.id}: segment {segment.id} has unknown category {segment.category_id}."
                )
            if ids.count(segment.id) > 1:
                raise AnnotationError(f"{path}: image {record.id}: segment {segment.id} appears twice.")
    return Annotations(labels, records)


def _image(entry: dict[str, Any], files: dict[int, str], photos: Path, masks: Path) -> ImageRecord:
    segments = tuple(
        SegmentRecord(int(segment["id"]), int(segment["category_id"]), bool(segment.get("iscrowd", 0)))
        for segment in entry["segments_info"]
    )
    if entry["image_id"] not in files:
        raise ValueError(f"image {entry['image_id']} has segments and is not listed in `images`.")
    photo = photos / files[entry["image_id"]]
    return ImageRecord(entry["image_id"], photo, masks / entry["file_name"], segments)

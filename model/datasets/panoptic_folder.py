"""Annotated folders: a COCO-panoptic JSON of segments with folders of photos and id PNGs, or Cityscapes."""

import json
from pathlib import Path
from typing import Any

from model.datasets.records import AnnotationError, Annotations, ImageRecord, SegmentRecord
from model.interface import categories


def load_annotations(path: Path, photos: Path, masks: Path | None) -> Annotations:
    """Read and check a COCO-panoptic JSON, or a split of Cityscapes.

    Args:
        path: of the JSON; or Cityscapes' `gtFine/train`, as downloaded.
        photos: folder of photos; or `leftImg8bit/train`.
        masks: folder of id PNGs; Cityscapes needs none.

    Raises:
        AnnotationError: it is neither, a file is missing, or a segment has an unknown category or appears twice.
    """
    if path.is_dir():
        from model.datasets.cityscapes import load_cityscapes

        return load_cityscapes(path, photos)
    if masks is None:
        raise AnnotationError(f"{path} is a COCO-panoptic file: name the folder of its PNGs with --masks.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = categories.parse(content["categories"])
        files = {entry["id"]: entry["file_name"] for entry in content["images"]}
        records = [_image(entry, files, photos, masks) for entry in content["annotations"]]
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
    return Annotations(labels, tuple(records))


def _image(entry: dict[str, Any], files: dict[int, str], photos: Path, masks: Path) -> ImageRecord:
    segments = tuple(
        SegmentRecord(int(segment["id"]), int(segment["category_id"]), bool(segment.get("iscrowd", 0)))
        for segment in entry["segments_info"]
    )
    if entry["image_id"] not in files:
        raise ValueError(f"image {entry['image_id']} has segments and is not listed in `images`.")
    photo = photos / files[entry["image_id"]]
    return ImageRecord(entry["image_id"], photo, masks / entry["file_name"], segments)


def read_id_list(text: str) -> set[int]:
    """Image ids from FILE:KEY, a JSON object that lists them under KEY.

    Raises:
        AnnotationError: the file has no such list.
    """
    file, _, key = text.rpartition(":")
    try:
        return {int(number) for number in json.loads(Path(file).read_text(encoding="utf-8"))[key]}
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(f"{text}: expected FILE:KEY with a list of image ids under KEY.") from error

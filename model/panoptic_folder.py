"""Annotated folders: a COCO-panoptic JSON of segments with folders of photos and id PNGs, or Cityscapes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import categories, codec
from model.categories import Category

MAX_PIXELS = 200_000_000
"""Of a photo: one that is trained or evaluated on is trusted further than one that is sent."""


class AnnotationError(Exception):
    """An annotation is wrong; the message names file, id and reason."""


@dataclass(frozen=True)
class SegmentRecord:
    """One annotated segment.

    Attributes:
        id: its value in the PNG.
        category_id: the dataset's own id.
        iscrowd: a group that instances are not told apart in.
    """

    id: int
    category_id: int
    iscrowd: bool


@dataclass(frozen=True)
class ImageRecord:
    """One annotated photo.

    Attributes:
        id: the dataset's own id.
        photo: path of the photo.
        mask: path of the PNG of segment ids.
        segments: of the photo.
    """

    id: int
    photo: Path
    mask: Path
    segments: tuple[SegmentRecord, ...]


@dataclass(frozen=True)
class Annotations:
    """A COCO-panoptic data set.

    Attributes:
        categories: in semantic order, stuff first.
        images: in the file's order.
    """

    categories: tuple[Category, ...]
    images: tuple[ImageRecord, ...]

    def select(self, ids: set[int]) -> "Annotations":
        """Only the images with these ids."""
        return Annotations(self.categories, tuple(image for image in self.images if image.id in ids))


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
        from model.cityscapes_folder import load_cityscapes

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
    known = {label.id for label in labels}
    for record in records:
        for file in (record.photo, record.mask):
            if not file.is_file():
                raise AnnotationError(f"{path}: image {record.id}: {file} does not exist.")
        ids = [segment.id for segment in record.segments]
        for segment in record.segments:
            if segment.category_id not in known:
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


def rgb_to_ids(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W, 3) -> (H, W): R + 256 G + 65536 B."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]


def read_ids(record: ImageRecord) -> NDArray[np.int32]:
    """(H, W) segment ids of a photo, 0 = void, checked against its segments both ways.

    A 16-bit PNG is Cityscapes': its values are the ids, those of labels that do not count become void.

    Raises:
        AnnotationError: the PNG cannot be read, holds an id that the JSON does not, or lacks one that it does.
    """
    listed = {segment.id for segment in record.segments}
    try:
        with Image.open(record.mask) as image:
            if image.mode.startswith("I"):
                values = np.asarray(image).astype(np.int32)
                return np.where(np.isin(values, list(listed)), values, 0).astype(np.int32)
            if image.mode != "RGB":
                raise AnnotationError(f"{record.mask}: mode {image.mode}; ids are 8-bit RGB, R + 256 G + 65536 B.")
            ids = rgb_to_ids(np.asarray(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise AnnotationError(f"{record.mask} cannot be read: {error}") from error
    present = set(np.unique(ids).tolist()) - {0}
    if present - listed:
        raise AnnotationError(f"{record.mask}: id {min(present - listed)} is in the PNG and not in the JSON.")
    if listed - present:
        raise AnnotationError(f"{record.mask}: id {min(listed - present)} is in the JSON and not in the PNG.")
    return ids


def read_photo(record: ImageRecord) -> codec.Pixels:
    """(H, W, 3) RGB of a photo, upright, as it is served.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        return codec.decode(record.photo.read_bytes(), MAX_PIXELS)
    except (codec.ImageError, OSError) as error:
        raise AnnotationError(f"{record.photo} cannot be read: {error}") from error


def check_same_size(record: ImageRecord, photo: tuple[int, ...], ids: NDArray[np.int32]) -> None:
    """Hold a PNG to the height and width of its photo.

    Raises:
        AnnotationError: they differ.
    """
    if photo[:2] != ids.shape:
        (height, width), (rows, columns) = photo[:2], ids.shape
        raise AnnotationError(f"{record.photo} is {width} x {height}, its PNG {record.mask} {columns} x {rows}.")


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

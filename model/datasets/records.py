"""Annotated photos as records, and the pixels of their PNGs, checked against each other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.command import CommandError
from model.interface import codec
from model.interface.categories import Labels
from model.interface.panoptic import Pixels

MAX_PIXELS = 200_000_000
"""Most pixels of a photo: one on this disk is trusted further than one that a client sends."""


class AnnotationError(CommandError):
    """An annotation is wrong; the message names the file, the id and the reason."""


@dataclass(frozen=True)
class SegmentRecord:
    """One annotated segment.

    Attributes:
        id: the value of its pixels in the PNG.
        category_id: the dataset's own id.
        iscrowd: whether it is a group whose instances are not told apart.
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
        segments: what the photo shows; each id once.
    """

    id: int
    photo: Path
    mask: Path
    segments: tuple[SegmentRecord, ...]


@dataclass(frozen=True)
class Annotations:
    """Annotated photos and their classes.

    Attributes:
        categories: the data set's classes.
        images: the photos, in the file's order.
    """

    categories: Labels
    images: tuple[ImageRecord, ...]

    def select(self, ids: set[int]) -> "Annotations":
        """Only the images with these ids."""
        return Annotations(self.categories, tuple(image for image in self.images if image.id in ids))


def rgb_to_ids(rgb: Pixels) -> NDArray[np.int32]:
    """(H, W, 3) -> (H, W): R + 256 G + 65536 B."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]


def read_ids(record: ImageRecord) -> NDArray[np.int32]:
    """(H, W) segment ids of a photo, 0 = void: exactly those of its segments.

    In a 16-bit PNG, as Cityscapes has them, values are ids; a value that no segment has becomes void.

    Raises:
        AnnotationError: the PNG cannot be read, has an id that no segment has, or lacks a segment's id.
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


def read_photo(record: ImageRecord) -> Pixels:
    """(H, W, 3) RGB of a photo, upright, decoded as the service does.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        return codec.decode(record.photo.read_bytes(), MAX_PIXELS)
    except (codec.ImageError, OSError) as error:
        raise AnnotationError(f"{record.photo} cannot be read: {error}") from error


def check_same_size(record: ImageRecord, photo: tuple[int, ...], ids: NDArray[np.int32]) -> None:
    """Refuse a PNG whose height or width is not its photo's.

    Raises:
        AnnotationError: they differ.
    """
    if photo[:2] != ids.shape:
        (height, width), (rows, columns) = photo[:2], ids.shape
        raise AnnotationError(f"{record.photo} is {width} x {height}, its PNG {record.mask} {columns} x {rows}.")

"""Annotated photos as records, and the pixels of their PNGs, checked against each other."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
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

ImageId = int | str
"""What a data set knows an image by; in one data set all are numbers, or all are text."""

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that it cannot read."""


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
        id: the dataset's own id; no other image has it.
        photo: path of the photo.
        mask: path of the PNG of segment ids.
        segments: what the photo shows; each id once.
    """

    id: ImageId
    photo: Path
    mask: Path
    segments: tuple[SegmentRecord, ...]


@dataclass(frozen=True)
class Annotations:
    """Annotated photos and their classes.

    Attributes:
        categories: the data set's classes, or those of a network that knows them all.
        images: the photos, in the file's order.
        source: where they were read from, for messages.
    """

    categories: Labels
    images: tuple[ImageRecord, ...]
    source: str = "the annotations"

    def select(self, ids: Collection[ImageId]) -> "Annotations":
        """Only the images with these ids."""
        return replace(self, images=tuple(image for image in self.images if image.id in ids))

    def relabel(self, labels: Labels) -> "Annotations":
        """The same photos under the labels of a network, which may know more classes, in another order.

        Raises:
            AnnotationError: the network lacks a class, or its class of that id has another name or kind.
        """
        odd = labels.differences(self.categories)
        if odd:
            more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
            raise AnnotationError(f"{self.source} and the network differ in categories: {', '.join(odd[:3])}{more}.")
        return replace(self, categories=labels)


def picture_names(records: Sequence[ImageRecord]) -> dict[ImageId, str]:
    """A file name for a picture of each photo, without its ending, by image id: its path below the folder of all.

    Each name is there once, and has at most about 200 bytes.
    """
    folder = os.path.commonpath([record.photo.parent for record in records]) if records else ""
    names: dict[ImageId, str] = {}
    taken = set()
    for record in records:
        path = "_".join(record.photo.relative_to(folder).with_suffix("").parts)
        while len(os.fsencode(path)) > 200:
            path = path[1:]
        name = path
        number = 1
        while name in taken:
            number += 1
            name = f"{path}_{number}"
        taken.add(name)
        names[record.id] = name
    return names


def rgb_to_ids(rgb: Pixels) -> NDArray[np.int32]:
    """(H, W, 3) -> (H, W): R + 256 G + 65536 B."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]


def read_ids(record: ImageRecord) -> NDArray[np.int32]:
    """(H, W) segment ids of a photo, 0 = void: exactly those of its segments.

    In a 16-bit PNG, as Cityscapes has them, values are ids; a value that no segment has becomes void.
    A JPEG is refused: it changes ids.

    Raises:
        AnnotationError: the PNG cannot be read, has an id that no segment has, or lacks a segment's id.
    """
    listed = {segment.id for segment in record.segments}
    try:
        with Image.open(record.mask) as image:
            if image.format == "JPEG":
                raise AnnotationError(f"{record.mask} is a JPEG, which changes ids; they are in a PNG.")
            if image.mode.startswith("I"):
                values = np.asarray(image).astype(np.int32)
                ids = np.where(np.isin(values, list(listed)), values, 0).astype(np.int32)
            elif image.mode == "RGB":
                ids = rgb_to_ids(np.asarray(image))
            else:
                raise AnnotationError(f"{record.mask}: mode {image.mode}; ids are 8-bit RGB, R + 256 G + 65536 B.")
    except UNREADABLE as error:
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

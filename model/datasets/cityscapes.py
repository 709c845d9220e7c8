"""Cityscapes as it is downloaded: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`, `gtFine/SPLIT/CITY/*_instanceIds.png`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from model.datasets.records import UNREADABLE, AnnotationError, Annotations, ImageRecord, SegmentRecord
from model.interface import categories
from model.interface.categories import Labels

PHOTO, TRUTH = "_leftImg8bit.png", "_gtFine_instanceIds.png"
INSTANCES_FROM = 1000  # a value is a label id * 1000 + the instance's number, or a label id alone


def load_cityscapes(truth: Path, photos: Path) -> Annotations:
    """The annotated photos of a split; every instance map is read.

    An image's id is the name that its files share, such as `aachen_000000_000019`. Category ids are the data set's
    label ids. The nineteen classes that the benchmark evaluates count; all others are void. A thing's label id without
    an instance's number is a group: a crowd.

    Args:
        truth: the folder `gtFine/train`, or another split.
        photos: the folder `leftImg8bit/train`, or the same split.

    Raises:
        AnnotationError: there are no instance maps, two have one name, one cannot be read, or its photo is missing.
    """
    maps = sorted(truth.glob(f"*/*{TRUTH}"))
    if not maps:
        raise AnnotationError(f"{truth} has no CITY/*{TRUTH}; expected a split of Cityscapes, such as gtFine/train.")
    labels = categories.load("cityscapes")
    cities: dict[str, Path] = {}
    for path in maps:
        if path.name in cities:
            raise AnnotationError(f"{path}: {cities[path.name]} has the same name; it is the image's id.")
        cities[path.name] = path

    def record(path: Path) -> ImageRecord:
        stem = path.name.removesuffix(TRUTH)
        photo = photos / path.parent.name / (stem + PHOTO)
        if not photo.is_file():
            raise AnnotationError(f"{path}: its photo {photo} does not exist.")
        return ImageRecord(stem, photo, path, segments_of(path, labels))

    with ThreadPoolExecutor() as pool:
        records = tqdm(pool.map(record, maps), f"reading {truth}", len(maps), unit="map", disable=None)
        return Annotations(labels, tuple(records), str(truth))


def segments_of(path: Path, labels: Labels) -> tuple[SegmentRecord, ...]:
    """The segments of an instance map, by rising value.

    Args:
        path: the 16-bit PNG.
        labels: the classes that count; all others are void.

    Raises:
        AnnotationError: the PNG cannot be read or is not one.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except UNREADABLE as error:
        raise AnnotationError(f"{path} cannot be read: {error}") from error
    if values.ndim != 2:
        raise AnnotationError(f"{path} has shape {values.shape}; instance ids are one 16-bit channel.")
    segments = []
    for value in np.unique(values).tolist():
        numbered = value >= INSTANCES_FROM
        label = value // INSTANCES_FROM if numbered else value
        if label in labels.index:
            crowd = label in labels.things.index and not numbered
            segments.append(SegmentRecord(value, label, crowd))
    return tuple(segments)

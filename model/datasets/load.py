"""Annotated photos in any of the forms that are read; a further form is added here."""

import argparse
from pathlib import Path

from model.command import path_name
from model.datasets.cityscapes import load_cityscapes
from model.datasets.json_file import check_same_kind, read_object
from model.datasets.panoptic_folder import load_panoptic_folder
from model.datasets.records import AnnotationError, Annotations, ImageId
from model.interface import json_fields as fields


def add_annotations(parser: argparse.ArgumentParser) -> None:
    """Add `--annotations`, `--images`, `--masks` and `--ids`: which annotated photos to use."""
    parser.add_argument(
        "--annotations", required=True, type=path_name, help="COCO-panoptic JSON, or Cityscapes' gtFine/SPLIT"
    )
    parser.add_argument("--images", required=True, type=path_name, help="folder of photos, or leftImg8bit/SPLIT")
    parser.add_argument("--masks", type=path_name, help="folder of id PNGs (Cityscapes: not needed)")
    parser.add_argument("--ids", help="FILE:KEY, a JSON whose KEY lists the image ids to use (default: all)")


def load_annotations(path: Path, photos: Path, masks: Path | None = None, ids: str | None = None) -> Annotations:
    """The annotated photos of a COCO-panoptic folder or of a split of Cityscapes.

    Args:
        path: COCO-panoptic JSON; or Cityscapes' folder `gtFine/SPLIT`, as it is downloaded.
        photos: folder of the photos; or `leftImg8bit/SPLIT`.
        masks: folder of the id PNGs; Cityscapes needs none.
        ids: FILE:KEY, a JSON object whose KEY lists the ids of the images to keep; None keeps all.

    Raises:
        AnnotationError: it is neither, a file is missing, an annotation is wrong, or no image is left.
    """
    if path.is_dir():
        annotations = load_cityscapes(path, photos)
    elif masks is None:
        raise AnnotationError(f"{path} is a COCO-panoptic file: name the folder of its PNGs with --masks.")
    else:
        annotations = load_panoptic_folder(path, photos, masks)
    if not annotations.images:
        raise AnnotationError(f"{path} has no images with annotations.")
    return annotations if ids is None else select_listed(annotations, ids)


def select_listed(annotations: Annotations, text: str) -> Annotations:
    """Only the images whose ids FILE:KEY lists; others may be in the list too.

    Raises:
        AnnotationError: there is no such list, it has ids of another kind than the images, or none of theirs.
    """
    ids = read_id_list(text)
    try:
        for number in ids:
            check_same_kind(number, annotations.images[0].id, f"--ids {text}: an id")
    except ValueError as error:
        raise AnnotationError(f"{error}.") from error
    chosen = annotations.select(set(ids))
    if not chosen.images:
        raise AnnotationError(f"--ids {text}: none of its {len(ids)} ids is that of an image in {annotations.source}.")
    return chosen


def read_id_list(text: str) -> list[ImageId]:
    """Image ids from FILE:KEY, a JSON object that lists them under KEY.

    Raises:
        AnnotationError: the file cannot be read, or has no such list.
    """
    file, _, key = text.rpartition(":")
    expected = "xpected FILE:KEY with a list of image ids under KEY."
    if not file or not key:
        raise AnnotationError(f"--ids {text}: e{expected}")
    try:
        listed = fields.entries(fields.get(read_object(Path(file), "such a file"), key, file), key)
        return [fields.identity(number, f"{key}[{place}]") for place, number in enumerate(listed)]
    except AnnotationError as error:
        raise AnnotationError(f"--ids {text}: {error} E{expected}") from error
    except ValueError as error:
        raise AnnotationError(f"--ids {text}: {error}; e{expected}") from error

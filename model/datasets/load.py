"""Annotated photos in any of the forms that are read; a further form is added here."""

import argparse
import json
from pathlib import Path

from model.datasets.cityscapes import load_cityscapes
from model.datasets.panoptic_folder import load_panoptic_folder
from model.datasets.records import AnnotationError, Annotations


def add_annotations(parser: argparse.ArgumentParser) -> None:
    """Add `--annotations`, `--images`, `--masks` and `--ids`: which annotated photos to use."""
    parser.add_argument(
        "--annotations", required=True, type=Path, help="COCO-panoptic JSON, or Cityscapes' gtFine/SPLIT"
    )
    parser.add_argument("--images", required=True, type=Path, help="folder of photos, or leftImg8bit/SPLIT")
    parser.add_argument("--masks", type=Path, help="folder of id PNGs (Cityscapes: not needed)")
    parser.add_argument("--ids", help="FILE:KEY, a JSON whose KEY lists the image ids to use (default: all)")


def load_annotations(path: Path, photos: Path, masks: Path | None = None, ids: str | None = None) -> Annotations:
    """The annotated photos of a COCO-panoptic folder or of a split of Cityscapes.

    Args:
        path: COCO-panoptic JSON; or Cityscapes' folder `gtFine/SPLIT`, as it is downloaded.
        photos: folder of the photos; or `leftImg8bit/SPLIT`.
        masks: folder of the id PNGs; Cityscapes needs none.
        ids: FILE:KEY, a JSON object whose KEY lists the ids of the images to keep; None keeps all.

    Raises:
        AnnotationError: it is neither, a file is missing, an annotation is wrong, or there is no such list of ids.
    """
    if path.is_dir():
        annotations = load_cityscapes(path, photos)
    elif masks is None:
        raise AnnotationError(f"{path} is a COCO-panoptic file: name the folder of its PNGs with --masks.")
    else:
        annotations = load_panoptic_folder(path, photos, masks)
    return annotations.select(read_id_list(ids)) if ids else annotations


def read_id_list(text: str) -> set[int]:
    """Image ids from FILE:KEY, a JSON object that lists them under KEY.

    Raises:
        AnnotationError: the file cannot be read, or has no such list.
    """
    file, _, key = text.rpartition(":")
    try:
        return {int(number) for number in json.loads(Path(file).read_text(encoding="utf-8"))[key]}
    except OSError as error:
        raise AnnotationError(f"--ids {text}: {file} cannot be read: {error.strerror}. Expected FILE:KEY.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(f"{text}: expected FILE:KEY with a list of image ids under KEY.") from error

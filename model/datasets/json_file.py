"""JSON files of annotations, and the image ids in them."""

import json
from pathlib import Path
from typing import Any

from model.datasets.records import AnnotationError, ImageId
from model.interface import json_fields as fields


def read_object(path: Path, kind: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object in a file, in UTF-8 or UTF-16, with or without a byte order mark.

    Args:
        path: the file.
        kind: what it is to be, in the words of a message: "a COCO-panoptic file".
        keys: what the object must have.

    Raises:
        AnnotationError: the file cannot be read, or holds something else.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        reason = f"no JSON: {error}" if data.strip() else "empty"
        raise AnnotationError(f"{path} is not {kind}: it is {reason}.") from error
    if not isinstance(content, dict):
        raise AnnotationError(f"{path} is not {kind}: it is {fields.show(content)}, not an object.")
    missing = [key for key in keys if key not in content]
    if missing:
        raise AnnotationError(f"{path} is not {kind}: it has no {missing[0]}.")
    return content


def image_id(entry: Any, name: str, what: str, other: ImageId | None) -> ImageId:
    """The id under a field of an entry.

    Args:
        entry: the entry.
        name: the field.
        what: the entry, in the words of a message.
        other: another id of the same data set; all are numbers, or all are text.

    Raises:
        ValueError: it has none, or one of the other kind.
    """
    number = fields.identity(fields.get(entry, name, what), f"{what}: {name}")
    if other is not None:
        check_same_kind(number, other, f"{what}: {name}")
    return number


def check_same_kind(number: ImageId, other: ImageId, what: str) -> None:
    """Refuse a number among texts, and text among numbers.

    Raises:
        ValueError: they are of two kinds.
    """
    if isinstance(number, str) != isinstance(other, str):
        found, wanted = fields.show(number), fields.show(other)
        raise ValueError(f"{what} is {found} where others are {wanted}; ids of images are all numbers, or all text")

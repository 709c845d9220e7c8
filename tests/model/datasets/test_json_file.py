"""JSON files: in any encoding that JSON may have, and refused by name otherwise."""

import codecs
import json
from pathlib import Path

import pytest

from model.datasets.json_file import check_same_kind, image_id, read_object
from model.datasets.records import AnnotationError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_objects_are_read_in_any_encoding_of_json(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps({"name": "straße"}, ensure_ascii=False).encode(encoding))
    assert read_object(tmp_path / "a.json", "a list of names", ("name",)) == {"name": "straße"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (codecs.BOM_UTF8, "it is no JSON: Expecting value: .*"),
        (b"{", "it is no JSON: Expecting property name .*"),
        (b"\x89PNG\r\n\x1a\n\0\0", "it is no JSON: .*"),
        (b"[" * 100_000, "it is no JSON: .*recursion.*"),
        (b"[]", "it is a list, not an object"),
        (b"null", "it is null, not an object"),
        (b'"categories"', 'it is "categories", not an object'),
        (b"{}", "it has no categories"),
    ],
)
def test_anything_else_is_refused_in_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"^/\S+/a\.json is not a list of names: {reason}\.$"):
        read_object(tmp_path / "a.json", "a list of names", ("categories",))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"/a\.json cannot be read: No such file or directory\.$"):
        read_object(tmp_path / "a.json", "a list of names")
    with pytest.raises(AnnotationError, match=r" cannot be read: Is a directory\.$"):
        read_object(tmp_path, "a list of names")


def test_ids_of_images_are_all_numbers_or_all_text() -> None:
    assert image_id({"id": 3.0}, "id", "images[0]", None) == 3
    assert image_id({"id": "b"}, "id", "images[1]", "a") == "b"
    check_same_kind(1, 2, "an id")
    with pytest.raises(ValueError, match=r'^images\[1\]: id is "3" where others are 1; ids of images are all numbers'):
        image_id({"id": "3"}, "id", "images[1]", 1)
    with pytest.raises(ValueError, match=r'^an id is 0 where others are "a"; '):
        check_same_kind(0, "a", "an id")

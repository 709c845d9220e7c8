"""Metadata as JSON and back."""

import json
from typing import Any

import pytest

from model.interface import categories
from model.interface.metadata import FORMAT_VERSION, Metadata

METADATA = Metadata(
    "demo",
    "camvid_demo",
    categories.load("camvid"),
    {"panoptic_score": 0.3},
    {"short_side": 360, "long_side": 640},
    scores={"pq": 40.0},
)


def kinds(stuff: int, things: int) -> list[dict[str, Any]]:
    """Categories of so many classes."""
    return [{"id": i, "name": str(i), "isthing": int(i >= stuff)} for i in range(stuff + things)]


def test_json_is_read_back_as_it_was_written() -> None:
    fields = json.loads(json.dumps(METADATA.to_json()))
    assert Metadata.from_json(fields) == METADATA
    assert fields["format_version"] == FORMAT_VERSION
    assert fields["categories"][0] == METADATA.categories[0].to_json()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"weights": 1}, "metadata does not fit format 2: .*weights"),
        ({"name": ...}, "metadata does not fit format 2: .*name"),
        ({"categories": ...}, "metadata does not fit format 2: 'categories'"),
        ({"categories": [{"id": 1}]}, "needs id, name, isthing"),
        ({"name": 7}, "name is 7, expected a word"),
        ({"name": "two\nlines"}, "expected a word"),
        ({"test_scale": {"short_side": 360}}, "expected short_side and long_side in pixels"),
        ({"test_scale": {"short_side": 360, "long_side": "640"}}, "expected short_side and long_side in pixels"),
        ({"test_scale": {"short_side": 0, "long_side": 640}}, "expected short_side and long_side in pixels"),
        ({"test_scale": None}, "metadata does not fit format 2"),
        ({"categories": kinds(0, 2)}, "0 classes of stuff and 2 of things: a network needs both kinds"),
        ({"categories": kinds(2, 0)}, "2 classes of stuff and 0 of things: a network needs both kinds"),
        ({"categories": kinds(3, 300)}, "3 classes of stuff and 300 of things: a map holds 255 classes"),
        ({"categories": kinds(200, 1)}, "instances is 100, its map has room for 55"),  # as older versions exported it
        ({"instances": 248}, "instances is 248, its map has room for 247"),
        ({"instances": 0}, "instances is 0"),
        ({"instances": True}, "instances is True"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change: dict[str, Any], part: str) -> None:
    fields = {key: value for key, value in {**METADATA.to_json(), **change}.items() if value is not ...}
    with pytest.raises(ValueError, match=part):
        Metadata.from_json(fields)


def test_more_stuff_leaves_less_room_for_instances() -> None:
    fields = METADATA.to_json() | {"categories": kinds(200, 1), "instances": 55}
    assert Metadata.from_json(fields).instances == 55
    fields = {name: value for name, value in METADATA.to_json().items() if name != "instances"}
    assert Metadata.from_json(fields).instances == 100  # archives of older versions

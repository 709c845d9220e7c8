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
    ],
)
def test_fields_that_do_not_fit_are_refused(change: dict[str, Any], part: str) -> None:
    fields = {key: value for key, value in {**METADATA.to_json(), **change}.items() if value is not ...}
    with pytest.raises(ValueError, match=part):
        Metadata.from_json(fields)

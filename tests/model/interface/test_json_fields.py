"""Values of a JSON: what is taken, and the one line for what is not."""

from typing import Any

import pytest

from model.interface import json_fields as fields


@pytest.mark.parametrize("value", [7, 7.0, "7"])
def test_whole_numbers_are_taken_however_they_are_written(value: Any) -> None:
    number = fields.whole(value, "id", 1, 7)
    assert (number, type(number)) == (7, int)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(7.5, "7.5"), ("7.0", '"7.0"'), ("x", '"x"'), ("", '""'), (True, "true"), (None, "null"), ([], "a list")],
)
def test_what_is_no_whole_number_is_refused(value: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"^id is {shown}; expected a whole number$"):
        fields.whole(value, "id")


@pytest.mark.parametrize("value", [0, -1, 256, 1e300, float("inf"), float("nan"), "9" * 5000])
def test_numbers_have_bounds(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^id is .{1,90}; expected a whole number from 1 to 255$"):
        fields.whole(value, "id", 1, 255)


@pytest.mark.parametrize("value", [0, 1, False, True])
def test_a_flag_is_written_in_four_ways(value: Any) -> None:
    assert fields.flag(value, "isthing") is bool(value)


@pytest.mark.parametrize("value", ["0", "1", "true", 2, -1, 0.0, 1.0, None, [], {}])
def test_and_in_no_other(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^isthing is .*; expected 0, 1, true or false$"):
        fields.flag(value, "isthing")


def test_other_values() -> None:
    assert fields.get({"id": None}, "id", "an image") is None
    assert fields.entries([1], "images") == [1]
    assert fields.real(1, "area") == 1.0
    assert fields.text("a b", "name") == "a b"
    assert (fields.identity(3.0, "id"), fields.identity("3", "id")) == (3, "3")


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: fields.get([], "id", "images[0]"), r"images\[0\] is a list; expected an object"),
        (lambda: fields.get(None, "id", "images[0]"), r"images\[0\] is null; expected an object"),
        (lambda: fields.get({}, "id", "images[0]"), r"images\[0\] has no id"),
        (lambda: fields.entries({}, "images"), "images is an object; expected a list"),
        (lambda: fields.entries("ab", "images"), 'images is "ab"; expected a list'),
        (lambda: fields.real("1", "area"), 'area is "1"; expected a number'),
        (lambda: fields.real(float("nan"), "area"), "area is NaN; expected a number"),
        (lambda: fields.real(True, "area"), "area is true; expected a number"),
        (lambda: fields.text(5, "name"), "name is 5; expected text"),
        (lambda: fields.text(" ", "name"), 'name is " "; expected text'),
        (lambda: fields.identity(None, "id"), "id is null; expected a whole number or text"),
        (lambda: fields.identity(True, "id"), "id is true; expected a whole number or text"),
        (lambda: fields.identity(1.5, "id"), "id is 1.5; expected a whole number"),
        (lambda: fields.identity("", "id"), 'id is ""; expected text'),
    ],
)
def test_what_is_something_else_is_refused_by_name(call: Any, part: str) -> None:
    with pytest.raises(ValueError, match=f"^{part}$"):
        call()


def test_long_values_are_cut_and_line_ends_escaped() -> None:
    assert fields.show("a\nb") == '"a\\nb"'
    assert fields.show("x" * 500) == '"' + "x" * 79 + "..."

"""Labels: the order of the classes, what is looked up in them, and the form of their JSON."""

import pickle
from typing import Any

import pytest

from model.interface import categories
from model.interface.categories import Category, Labels

CAR: dict[str, Any] = {"id": 26, "name": "car", "isthing": 1, "color": [0, 0, 142]}
ROAD: dict[str, Any] = {"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}
PERSON: dict[str, Any] = {"id": 24, "name": "person", "isthing": 1, "color": [220, 20, 60]}


def test_stuff_comes_first_and_each_kind_keeps_the_files_order() -> None:
    labels = categories.parse([CAR, ROAD, PERSON])
    assert labels.names == ("road", "car", "person")
    assert labels.ids == (7, 26, 24)
    assert labels.index == {7: 0, 26: 1, 24: 2}
    assert labels.colors[26] == (0, 0, 142)
    assert len(labels) == 3
    assert labels[0] == next(iter(labels)) == Category(7, "road", False, (128, 64, 128))


def test_the_things_alone_count_from_zero() -> None:
    labels = categories.parse([CAR, ROAD, PERSON])
    assert labels.stuff.names == ("road",)
    assert labels.things.index == {26: 0, 24: 1}


def test_no_categories_are_labels_too() -> None:
    labels = categories.parse([])
    assert (len(labels), labels.index, labels.things.ids) == (0, {}, ())


def test_json_is_read_back_as_it_was_written() -> None:
    assert categories.parse([CAR, ROAD]).to_json() == [ROAD, CAR]


def test_labels_cross_a_pipe_after_they_were_used() -> None:
    labels = categories.parse([CAR, ROAD])
    assert labels.things.index == {26: 0}
    copy = pickle.loads(pickle.dumps(labels))
    assert copy == labels
    assert copy.things.colors == {26: (0, 0, 142)}


def test_a_missing_colour_is_made_from_the_id() -> None:
    colors = [label.color for label in categories.parse({**CAR, "id": number, "color": None} for number in range(9))]
    assert colors[1:5] == [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert len(set(colors)) == 9


@pytest.mark.parametrize("name", ["id", "name", "isthing"])
def test_an_entry_that_lacks_something_is_named(name: str) -> None:
    entry = {key: value for key, value in CAR.items() if key != name}
    place = r"categories\[1\]" if name == "id" else "category 26"
    with pytest.raises(ValueError, match=f"^{place} has no {name}; a category needs id, name, isthing and, if any, an"):
        categories.parse([ROAD, entry])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"id": "x"}, r'categories\[1\]: id is "x"; expected a whole number'),
        ({"id": 7.5}, r"categories\[1\]: id is 7.5; expected a whole number"),
        ({"id": True}, r"categories\[1\]: id is true; expected a whole number"),
        ({"name": None}, "category 26: name is null; expected text"),
        ({"isthing": "0"}, 'category 26: isthing is "0"; expected 0, 1, true or false'),
        ({"isthing": 2}, "category 26: isthing is 2; expected 0, 1, true or false"),
        ({"isthing": None}, "category 26: isthing is null; expected 0, 1, true or false"),
        ({"color": "#00008e"}, 'category 26: color is "#00008e"; expected three numbers from 0 to 255'),
        ({"color": [1, 2]}, "category 26: color has 2 parts; expected three numbers from 0 to 255"),
        ({"color": [1, 2, 3, 4]}, "category 26: color has 4 parts; expected three numbers from 0 to 255"),
        ({"color": 0}, "category 26: color is 0; expected three numbers from 0 to 255"),
        ({"color": [0, 0, 256]}, "category 26: a part of color is 256; expected a whole number from 0 to 255"),
        ({"color": [0, 0.5, 1]}, "category 26: a part of color is 0.5; expected a whole number from 0 to 255"),
        ({"color": [0, 0, None]}, "category 26: a part of color is null; expected a whole number from 0 to 255"),
    ],
)
def test_a_wrong_field_is_named(fault: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        categories.parse([ROAD, {**CAR, **fault}])


@pytest.mark.parametrize("entry", [None, 7, "car", []])
def test_an_entry_is_an_object(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"^categories\[1\] is .*; expected an object"):
        categories.parse([ROAD, entry])


def test_other_ways_to_write_the_same_are_taken() -> None:
    written = {**CAR, "id": 26.0, "isthing": True, "color": [0.0, 0, "142"], "supercategory": "vehicle"}
    assert categories.parse([written]) == categories.parse([CAR])
    assert categories.parse([{**CAR, "color": []}]) == categories.parse([{**CAR, "color": None}])


def test_categories_differ_in_id_name_or_kind() -> None:
    labels = categories.parse([CAR, ROAD, PERSON])
    same = categories.parse([{**PERSON, "color": None}, CAR])
    assert labels.differences(same) == []
    assert labels.differences(categories.parse([])) == []
    others = categories.parse(
        [{**CAR, "name": "van"}, {**ROAD, "isthing": 1}, {**PERSON, "isthing": 0}, {**CAR, "id": 3}]
    )
    assert labels.differences(others) == [
        "category 24 (person) is stuff, and not thing",
        "category 26 is van, and not car",
        "category 7 (road) is thing, and not stuff",
        "category 3 (car) is unknown",
    ]


def test_an_id_is_there_once() -> None:
    with pytest.raises(ValueError, match=r"category ids \[26\] appear twice"):
        categories.parse([ROAD, CAR, {**CAR, "name": "van"}])


@pytest.mark.parametrize(("name", "stuff", "things"), [("coco", 53, 80), ("cityscapes", 11, 8), ("camvid", 8, 3)])
def test_the_known_data_sets(name: str, stuff: int, things: int) -> None:
    labels = categories.load(name)
    assert (len(labels.stuff), len(labels.things)) == (stuff, things)
    assert isinstance(labels, Labels)
    assert labels.ids == labels.stuff.ids + labels.things.ids

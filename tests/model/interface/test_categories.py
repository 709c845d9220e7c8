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


@pytest.mark.parametrize("fault", [{"id": "x"}, {"color": [1, 2]}, {"name": ...}])
def test_an_entry_that_lacks_something_is_named(fault: dict[str, Any]) -> None:
    entry = {key: value for key, value in {**CAR, **fault}.items() if value is not ...}
    with pytest.raises(ValueError, match=r"category \{'id': .* needs id, name, isthing"):
        categories.parse([ROAD, entry])


def test_an_id_is_there_once() -> None:
    with pytest.raises(ValueError, match=r"category ids \[26\] appear twice"):
        categories.parse([ROAD, CAR, {**CAR, "name": "van"}])


@pytest.mark.parametrize(("name", "stuff", "things"), [("coco", 53, 80), ("cityscapes", 11, 8), ("camvid", 8, 3)])
def test_the_known_data_sets(name: str, stuff: int, things: int) -> None:
    labels = categories.load(name)
    assert (len(labels.stuff), len(labels.things)) == (stuff, things)
    assert isinstance(labels, Labels)
    assert labels.ids == labels.stuff.ids + labels.things.ids

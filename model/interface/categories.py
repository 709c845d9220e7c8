"""The classes that a model knows."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from model.interface import json_fields as fields


@dataclass(frozen=True)
class Category:
    """One class of a data set.

    Attributes:
        id: the data set's own id.
        name: as the data set writes it.
        isthing: whether its instances are told apart.
        color: RGB, as the data set draws it.
    """

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """As COCO panoptic writes it."""
        return {**asdict(self), "isthing": int(self.isthing), "color": list(self.color)}


@dataclass(frozen=True)
class Labels:
    """Categories in semantic order: stuff first, then things. The place of a category is its semantic index.

    Attributes:
        categories: in that order, each id once.
    """

    categories: tuple[Category, ...]

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, index: int) -> Category:
        return self.categories[index]

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The data set's own ids, in semantic order."""
        return tuple(category.id for category in self)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names, in semantic order."""
        return tuple(category.name for category in self)

    @cached_property
    def index(self) -> dict[int, int]:
        """Semantic index by category id."""
        return {number: index for index, number in enumerate(self.ids)}

    @cached_property
    def colors(self) -> dict[int, tuple[int, int, int]]:
        """RGB by category id."""
        return {category.id: category.color for category in self}

    @cached_property
    def stuff(self) -> "Labels":
        """The stuff alone; every semantic index stays."""
        return Labels(tuple(category for category in self if not category.isthing))

    @cached_property
    def things(self) -> "Labels":
        """The things alone; class k of the detection heads is things[k - 1], class 0 the background."""
        return Labels(tuple(category for category in self if category.isthing))

    def differences(self, others: "Labels") -> list[str]:
        """Why categories of others are none of these, a reason each; empty where all are, by id, name and kind."""
        reasons = []
        for other in others:
            own = self[self.index[other.id]] if other.id in self.index else None
            if own is None:
                reasons.append(f"category {other.id} ({other.name}) is unknown")
            elif own.name != other.name:
                reasons.append(f"category {other.id} is {other.name}, and not {own.name}")
            elif own.isthing != other.isthing:
                kinds = ("thing", "stuff") if other.isthing else ("stuff", "thing")
                reasons.append(f"category {other.id} ({other.name}) is {kinds[0]}, and not {kinds[1]}")
        return reasons

    def to_json(self) -> list[dict[str, Any]]:
        """As the `categories` of a COCO-panoptic file."""
        return [category.to_json() for category in self]


def parse(entries: Iterable[Any]) -> Labels:
    """Labels from the `categories` of a COCO-panoptic file.

    Stuff keeps the file's order, and so do things. A missing colour is made from the id.

    Raises:
        ValueError: an entry lacks a field or has a wrong one, or two share an id.
    """
    parsed = [_category(entry, f"categories[{place}]") for place, entry in enumerate(entries)]
    labels = Labels(tuple(sorted(parsed, key=lambda category: category.isthing)))
    if len(labels.index) < len(labels):
        raise ValueError(f"category ids {sorted(i for i in labels.index if labels.ids.count(i) > 1)} appear twice")
    return labels


def _category(entry: Any, place: str) -> Category:
    try:
        number = fields.whole(fields.get(entry, "id", place), f"{place}: id")
        what = f"category {number}"
        name, isthing = fields.get(entry, "name", what), fields.get(entry, "isthing", what)
    except ValueError as error:
        raise ValueError(f"{error}; a category needs id, name, isthing and, if any, an RGB color") from error
    name, isthing = fields.text(name, f"{what}: name"), fields.flag(isthing, f"{what}: isthing")
    color = entry.get("color")
    if color is None or color == []:
        return Category(number, name, isthing, _spread_color(number))
    if not isinstance(color, list) or len(color) != 3:
        found = f"has {len(color)} parts" if isinstance(color, list) else f"is {fields.show(color)}"
        raise ValueError(f"{what}: color {found}; expected three numbers from 0 to 255")
    red, green, blue = (fields.whole(part, f"{what}: a part of color", 0, 255) for part in color)
    return Category(number, name, isthing, (red, green, blue))


def load(name: str) -> Labels:
    """The labels of a known data set: the name of a file in `model/label_data`, without its ending.

    Raises:
        FileNotFoundError: no such data set.
    """
    text = resources.files("model").joinpath("label_data", f"{name}.json").read_text(encoding="utf-8")
    return parse(json.loads(text))


def _spread_color(number: int) -> tuple[int, int, int]:
    """A colour that differs from its neighbours': the bits of the id, dealt to the channels from the top."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]

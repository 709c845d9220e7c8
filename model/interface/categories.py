"""The classes a model knows, in semantic order: stuff first, then things."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Category:
    """One class of a dataset.

    Attributes:
        id: the dataset's own id.
        name: as the dataset writes it.
        isthing: whether its instances are told apart.
        color: RGB, as the dataset draws it.
    """

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """As COCO panoptic writes it."""
        return {**asdict(self), "isthing": int(self.isthing), "color": list(self.color)}


def parse(entries: Iterable[dict[str, Any]]) -> tuple[Category, ...]:
    """Categories in semantic order from the `categories` of a COCO-panoptic file.

    Stuff keeps the file's order, then things in the file's order; a missing colour is made from the id.

    Raises:
        ValueError: an entry lacks a field, or two share an id.
    """
    categories = []
    for entry in entries:
        try:
            number = int(entry["id"])
            red, green, blue = entry.get("color") or _spread_color(number)
            color = (int(red), int(green), int(blue))
            categories.append(Category(number, str(entry["name"]), bool(entry["isthing"]), color))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"category {entry!r} needs id, name, isthing and, if any, an RGB color") from error
    ids = [category.id for category in categories]
    if len(set(ids)) < len(ids):
        raise ValueError(f"category ids {sorted(i for i in set(ids) if ids.count(i) > 1)} appear twice")
    return tuple(sorted(categories, key=lambda category: category.isthing))


def load(name: str) -> tuple[Category, ...]:
    """The categories of a known dataset: coco, cityscapes, camvid.

    Raises:
        FileNotFoundError: no such dataset.
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

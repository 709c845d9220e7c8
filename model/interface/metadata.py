"""The metadata of an archive, which `metadata.json` inside it holds."""

from dataclasses import asdict, dataclass, field
from typing import Any

from model.interface import categories
from model.interface.categories import Labels
from model.interface.channels import MOST_INSTANCES, check_classes, room_for_instances

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Metadata:
    """The facts about its model that an archive holds.

    Attributes:
        name: the model's name, as clients see it.
        configuration: name of the network's builder.
        categories: the classes that it tells apart.
        thresholds: smallest scores and areas that make a segment, by name.
        test_scale: `short_side` and `long_side`, pixels.
        dataset: the data set that it was trained on.
        scores: measured scores by name; empty where none were measured.
        licence: the weights' licence.
        source_sha256: digest of the checkpoint that was exported.
        software: versions of the software that exported it, by name.
        instances: most things that it tells apart in an image; archives that do not say it have the default.
        format_version: version of this layout and of the operators that the network calls.
    """

    name: str
    configuration: str
    categories: Labels
    thresholds: dict[str, float]
    test_scale: dict[str, int]
    dataset: str = "unknown"
    scores: dict[str, float] = field(default_factory=dict)
    licence: str = "unknown"
    source_sha256: str = ""
    software: dict[str, str] = field(default_factory=dict)
    instances: int = MOST_INSTANCES
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """The content of `metadata.json`."""
        return {**asdict(self), "categories": self.categories.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Metadata":
        """Metadata from the output of `to_json`.

        Raises:
            ValueError: a field is missing, unknown or wrong.
        """
        try:
            metadata = cls(**{**fields, "categories": categories.parse(fields["categories"])})
            metadata._check()
        except (KeyError, TypeError) as error:
            raise ValueError(f"metadata does not fit format {FORMAT_VERSION}: {error}") from error
        return metadata

    def _check(self) -> None:
        """Raise a TypeError or a ValueError for what would fail, or be confused, only when it is used."""
        if not isinstance(self.name, str) or not self.name.isprintable() or not self.name:
            raise TypeError(f"name is {self.name!r}, expected a word")
        sides = self.test_scale.values() if isinstance(self.test_scale, dict) else ()
        if set(self.test_scale) != {"short_side", "long_side"} or not all(
            type(side) is int and side > 0 for side in sides
        ):
            raise TypeError(f"test_scale is {self.test_scale!r}, expected short_side and long_side in pixels")
        stuff = len(self.categories.stuff)
        check_classes(stuff, len(self.categories.things))
        if type(self.instances) is not int or not 1 <= self.instances <= room_for_instances(stuff):
            raise TypeError(
                f"instances is {self.instances!r}, its map has room for {room_for_instances(stuff)}; export it again"
            )

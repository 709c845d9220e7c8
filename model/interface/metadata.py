"""What an archive says of itself, as `metadata.json` inside it holds it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from model.interface import categories
from model.interface.categories import Labels

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Metadata:
    """What an archive says of itself.

    Attributes:
        name: of the model, as clients see it.
        configuration: the builder that made the network.
        categories: the classes that it tells apart.
        thresholds: of scores and areas, by name.
        test_scale: `short_side` and `long_side`, pixels.
        dataset: what it was trained on.
        scores: measured, by name; empty where nothing was.
        licence: of the weights.
        source_sha256: of the checkpoint the archive was made from.
        software: versions, by name.
        format_version: of this layout and of the operators inside.
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
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """As `metadata.json` holds it."""
        return {**asdict(self), "categories": self.categories.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Metadata":
        """The inverse of `to_json`.

        Raises:
            ValueError: a field is missing, unknown or wrong.
        """
        try:
            return cls(**{**fields, "categories": categories.parse(fields["categories"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"metadata does not fit format {FORMAT_VERSION}: {error}") from error

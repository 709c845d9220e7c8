"""The rows of the table, and the limits that some of them are held to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        name: what was measured; `LIMITS` knows some of the names.
        figure: a number, or words; None where it could not be had.
        unit: of the number.
        note: what else to know, or why there is no figure.
        failed: the figure could not be had, or is wrong.
        section: that it belongs to; filled in when it is printed.
    """

    name: str
    figure: float | str | None
    unit: str = ""
    note: str = ""
    failed: bool = False
    section: str = ""

    def line(self) -> str:
        """The row as the process of a section prints it."""
        return MARK + json.dumps(asdict(self))


MARK = "row "


def read_row(line: str) -> Row | None:
    """The row that a line holds; None for any other line."""
    if not line.startswith(MARK):
        return None
    return Row(**json.loads(line.removeprefix(MARK)))


class Limit(NamedTuple):
    """What a figure must reach, and what is aimed at; the least for `at_least`, else the most."""

    must: float
    aim: float | None = None
    at_least: bool = False

    def reached(self, bound: float | None, figure: float) -> bool:
        """Whether a figure is within a bound."""
        return bound is not None and (figure >= bound if self.at_least else figure <= bound)


LIMITS: dict[str, Limit] = {
    "tests of the kernels that fail": Limit(0),
    "tests that need a device that fail": Limit(0),
    "images/s at batch 8": Limit(200, 600, at_least=True),
    "latency at batch 1, p50": Limit(7, 1.9),
    "panoptic head, 20 things, batch 1": Limit(0.25, 0.03),
    "panoptic head, 100 things, batch 1": Limit(0.4, 0.03),
    "panoptic head, 20 things, batch 1, memory": Limit(60),
    "panoptic head, 100 things, batch 1, memory": Limit(60),
    "semantic head, batch 1": Limit(float("inf"), 0.42),
    "semantic head, batch 1, torchvision half / ours": Limit(2, at_least=True),
    "semantic head, batch 1, torchvision float / ours": Limit(4, at_least=True),
    "deformable convolution, error / torchvision's in float32": Limit(4),
    "torchvision Mask R-CNN / ours": Limit(1, 4, at_least=True),
    "transformers Mask2Former / ours": Limit(2, 8, at_least=True),
    "waits of the host in a batch, network": Limit(2),
    "waits of the host in a batch, predictor": Limit(2),
    "service at 64 clients / bare loop, camvid_demo": Limit(80, 95, at_least=True),
    "service at 64 clients / bare loop, coco_r50": Limit(80, 95, at_least=True),
}


def to_json(row: Row, dry: bool) -> dict[str, Any]:
    """A row with its limits, for the file of figures."""
    limit = LIMITS.get(row.name)
    bounds = {"must": limit.must, "aim": limit.aim} if limit and limit.must != float("inf") else {}
    return {**asdict(row), **bounds, "verdict": verdict(row, dry)}


def verdict(row: Row, dry: bool) -> str:
    """What the last column says of a row: nothing where it has no limit, or where nothing is judged."""
    limit = LIMITS.get(row.name)
    if row.failed:
        return "failed"
    if dry or limit is None or not isinstance(row.figure, int | float):
        return ""
    if not limit.reached(limit.must, row.figure):
        return "missed"
    return "as aimed" if limit.reached(limit.aim, row.figure) else "met"


def table(rows: Sequence[Row], dry: bool) -> Iterator[str]:
    """Lines of the table."""
    yield "| section | what | figure | unit | must | aim | |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        limit = LIMITS.get(row.name)
        bounds = [number(bound) for bound in (limit.must, limit.aim)] if limit else ["", ""]
        last = "; ".join(part for part in (verdict(row, dry), row.note) if part)
        cells = [row.section, row.name, number(row.figure), row.unit, *bounds, last.replace("|", "/")]
        yield f"| {' | '.join(cells)} |"


def number(value: Any) -> str:
    """A number with four digits that count; words as they are; nothing for None and for no limit."""
    if value is None or value == float("inf"):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)

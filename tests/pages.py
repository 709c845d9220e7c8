"""The documents, taken apart."""

import re
from typing import NamedTuple

from tests.paths import ROOT

NAMES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".github/SECURITY.md", "weights/README.md"]
NAMES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


class Block(NamedTuple):
    """A fenced block; one whose first line is a comment such as `# needs Docker` is not run."""

    language: str
    text: str

    @property
    def needs(self) -> bool:
        return re.match(r"(#|//) needs ", self.text) is not None


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", read(name), re.MULTILINE | re.DOTALL)]


def anchors(page: str) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

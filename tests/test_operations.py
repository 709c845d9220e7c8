"""The operators' page has a runbook for every alert, each alert links to its own, and the links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("docs/operations.md", "docs/security.md", "README.md")
}
ALERTS = (ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_alert_links_to_its_runbook() -> None:
    rules = [rule.split("\n", 1) for rule in ALERTS.split("- alert: ")[1:]]
    assert len(rules) == 8
    for name, rule in rules:
        assert re.findall(r"runbook: (\S+)", rule) == [f"docs/operations.md#{name.lower()}"]


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    section = PAGES["docs/operations.md"].split("\n## Alerts\n")[1].split("\n## ")[0]
    books = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n### |\Z)", section, re.MULTILINE | re.DOTALL))
    assert list(books) == re.findall(r"- alert: (\w+)", ALERTS)
    assert min(len(book.split()) for book in books.values()) > 20


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target

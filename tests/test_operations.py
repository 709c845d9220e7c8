"""The operators' page has a runbook for every alert, and each alert links to its own."""

import re

from tests.pages import read

ALERTS = read("docker/prometheus/alerts.yml")


def test_each_alert_links_to_its_runbook() -> None:
    rules = [rule.split("\n", 1) for rule in ALERTS.split("- alert: ")[1:]]
    assert len(rules) == 9
    for name, rule in rules:
        assert re.findall(r"runbook: (\S+)", rule) == [f"docs/operations.md#{name.lower()}"]


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    section = read("docs/operations.md").split("\n## Alerts\n")[1].split("\n## ")[0]
    books = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n### |\Z)", section, re.MULTILINE | re.DOTALL))
    assert list(books) == re.findall(r"- alert: (\w+)", ALERTS)
    assert min(len(book.split()) for book in books.values()) > 20

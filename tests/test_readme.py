"""The README names every setting and every metric, with its default, and nothing that does not exist."""

import re
from pathlib import Path

from service.metrics import Metrics
from service.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_settings_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `(UPSNET_\w+)` \|.*\| ([^|]*) \|$", README, re.MULTILINE))
    assert set(rows) == {f"UPSNET_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, (int, str)):
            assert rows[f"UPSNET_{name.upper()}"] == str(field.default)


def test_metrics_are_those_of_the_code() -> None:
    section = README.split("## Metrics")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(upsnet_\w+)`", section))
    families = Metrics().registry.collect()
    suffix = {"counter": "_total", "info": "_info"}
    assert documented == {family.name + suffix.get(family.type, "") for family in families}

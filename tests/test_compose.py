"""What the compose files promise without an engine: every setting can be set."""

import re

from service.settings import Settings
from tests.paths import ROOT

SERVICES = (ROOT / "docker/services.yml").read_text(encoding="utf-8")


def test_every_setting_reaches_the_container() -> None:
    passed = set(re.findall(r"^      (UPSNET_\w+):", SERVICES, re.MULTILINE))
    fixed = {"host", "port"}  # what the published port leads to
    assert passed == {f"UPSNET_{name.upper()}" for name in set(Settings.model_fields) - fixed}

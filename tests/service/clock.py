"""A clock for code that reads `time.monotonic`."""

from types import ModuleType

import pytest


class Clock:
    """In place of `time` in a module: stands still until it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.now = 0.0
        monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now

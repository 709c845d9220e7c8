"""A command as a user types it, in this process."""

import runpy
import sys
import warnings

import pytest


def typed(command: str, *words: str) -> int:
    """Exit status of `python -m COMMAND WORDS`; an error that is a bug is raised."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", [command, *words])
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)  # of a second run
        runpy.run_module(command, run_name="__main__")
    assert isinstance(stop.value.code, int)
    return stop.value.code

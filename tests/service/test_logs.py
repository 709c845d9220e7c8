"""One warning of its kind a second, and none lost count of."""

import logging
import time

import pytest

from service import logs


def warn(number: int) -> None:
    logging.getLogger("strangers").warning("request %d is odd", number)


def test_a_place_in_the_code_warns_once_a_second_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.set_up_logging("text", "info")
        for number in range(50):
            warn(number)
            logging.getLogger("ours").info("started %d", number)
        logging.getLogger("strangers").warning("another place")
        time.sleep(1.05)
        warn(50)
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("WARNING ")[1] for line in lines if "WARNING" in line] == [
        "strangers: request 0 is odd",
        "strangers: another place",
        "strangers: request 50 is odd (and 49 more like it)",
    ]
    assert sum("started" in line for line in lines) == 50

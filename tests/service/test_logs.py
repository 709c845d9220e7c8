"""What is written, how often, and in which form."""

import json
import logging
import sys
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


def test_a_burst_of_refusals_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    bursts = logs.Bursts(seconds=0.2)
    for _ in range(50):
        bursts.note("The queue is full.")
    assert len(caplog.records) == 1
    time.sleep(0.25)
    bursts.note("The queue is full.")
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [1, 50]


def test_a_line_of_json_has_the_message_and_the_trace() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        record = logging.LogRecord("ours", logging.ERROR, __file__, 1, "request %s failed", ("a",), sys.exc_info())
    record.created = 0.0
    entry = json.loads(logs.JsonFormatter().format(record))
    assert entry.pop("trace").splitlines()[-1] == "ValueError: bad"
    assert entry == {
        "time": "1970-01-01T00:00:00Z",
        "level": "error",
        "logger": "ours",
        "message": "request a failed",
    }

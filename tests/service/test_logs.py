"""What is written, how often, and in which form."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from service import logs
from tests.service.clock import Clock


def warn(number: int) -> None:
    logging.getLogger("strangers").warning("request %d is odd", number)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, logs)


def test_a_place_in_the_code_warns_once_a_second_and_counts_the_rest(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.set_up_logging("text", "info")
        for number in range(50):
            warn(number)
            logging.getLogger("ours").info("started %d", number)
        logging.getLogger("strangers").warning("another place")
        clock.now = 1.0
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


def test_what_libraries_write_is_limited_elsewhere() -> None:
    kinds = logs.OneOfAKind()
    for name, passed in ((logs.LIBRARIES, [True, True]), ("strangers", [True, False])):
        records = [logging.LogRecord(name, logging.WARNING, name, 1, "odd", None, None) for _ in range(2)]
        assert [kinds.filter(record) for record in records] == passed


def test_a_line_of_text_has_the_message_in_one_line_and_the_trace_below() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        record = logging.LogRecord("ours", logging.ERROR, __file__, 1, "a\nb\t\x1b[0m\u2028ü", None, sys.exc_info())
    first, *trace = logs.TextFormatter().format(record).split("\n")
    assert first.endswith(" ERROR ours: a\\nb\\t\\x1b[0m\\u2028ü")
    assert trace[-1] == "ValueError: bad"


def test_a_message_is_cut() -> None:
    record = logging.LogRecord("ours", logging.INFO, __file__, 1, "%s", ("x" * 5000,), None)
    assert len(json.loads(logs.JsonFormatter().format(record))["message"]) == logs.LONGEST_MESSAGE
    assert logs.TextFormatter().format(record).count("x") == logs.LONGEST_MESSAGE


def test_the_log_goes_to_its_own_stream_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    assert logs.log_stream() is None
    try:
        with (tmp_path / "log").open("wb") as file:
            stream = logs.LogStream(os.dup(file.fileno()), unread=7)
        root.addHandler(logging.StreamHandler(stream))
        logs.set_up_logging("json", "info")
        root.info("here \udc80")
        assert logs.log_stream() is stream
        assert (stream.form, stream.level, stream.unread) == ("json", "info", 7)
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    stream.close()
    assert json.loads((tmp_path / "log").read_text())["message"] == "here \udc80"
    assert capsys.readouterr().err == ""


def test_a_burst_of_refusals_is_one_line(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    bursts = logs.Bursts(seconds=10.0)
    for _ in range(50):
        bursts.note("The queue is full.")
    assert len(caplog.records) == 1
    clock.now = 10.0
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

"""The budget of what libraries write, and that nobody waits for its reader."""

import ctypes
import logging
import os
import time

import pytest

from service import library_lines
from service.library_lines import CHARACTERS, LINES, Lines, Reader, open_pipe, printable
from tests.service.clock import Clock


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "libraries"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, library_lines)


def test_the_first_lines_of_a_minute_are_logged_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    lines = Lines("worker 7", seconds=60.0)
    assert lines.pause is None
    lines.take(b"".join(b"line %d\n" % number for number in range(1000)))
    assert messages(caplog) == [f"worker 7: line {number}" for number in range(LINES)]
    clock.now = 59.0
    assert lines.pause == 1.0
    lines.tick()
    assert len(messages(caplog)) == LINES
    clock.now = 60.0
    lines.tick()
    assert messages(caplog)[LINES].startswith(f"worker 7: ... and {1000 - LINES} more lines of libraries, the last: ")
    assert messages(caplog)[LINES].endswith(" | line 998 | line 999")
    assert lines.pause is None
    lines.take(b"in the next minute\n")
    assert messages(caplog)[LINES + 1 :] == ["worker 7: in the next minute"]


def test_a_minute_that_nobody_told_the_end_of_ends_with_the_next_line(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    lines = Lines("service", seconds=60.0)
    lines.take(b"a\n" * (LINES + 2))
    clock.now = 61.0
    lines.take(b"b\n")
    assert messages(caplog)[LINES:] == [
        "service: ... and 2 more lines of libraries, the last: a | a",
        "service: b",
    ]


def test_a_line_whose_end_does_not_come_is_logged_after_a_pause(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines("service")
    lines.take(b"two ")
    lines.take(b"parts\r\n\n\r  \nand no end")
    assert messages(caplog) == ["service: two parts"]
    assert lines.pause == 1.0
    lines.tick()
    assert messages(caplog) == ["service: two parts", "service: and no end"]


def test_a_line_is_printable_and_cut_also_one_without_end(caplog: pytest.LogCaptureFixture) -> None:
    assert printable(b"\x1b[31mB\xc3\xa4r\0\x7f ") == "?[31mB??r??"
    assert printable(b"a" * CHARACTERS) == "a" * CHARACTERS
    assert printable(b"a" * (CHARACTERS + 1)) == "a" * (CHARACTERS - 3) + "..."
    lines = Lines("service")
    for _ in range(100):
        lines.take(bytes(65_536))
    lines.end(logging.ERROR)
    assert [len(message) for message in messages(caplog)] == [len("service: ") + CHARACTERS]


def test_the_last_words_are_logged_though_the_budget_is_spent(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines("worker 7")
    lines.take(b"noise\n" * 10_000 + b"free(): invalid pointer\nno end")
    lines.end(logging.ERROR)
    assert messages(caplog)[-1].endswith(" | noise | free(): invalid pointer | no end")
    assert len(messages(caplog)) == LINES + 1
    assert sum(map(len, messages(caplog))) < 2000
    assert [record.levelname for record in caplog.records] == ["WARNING"] * LINES + ["ERROR"]


def test_a_log_of_errors_alone_has_the_last_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    lines = Lines("worker 7")
    lines.take(b"free(): invalid pointer\n")
    assert messages(caplog) == []
    lines.end(logging.ERROR)
    assert messages(caplog) == ["worker 7: ... and 1 more lines of libraries, the last: free(): invalid pointer"]


def test_a_writer_of_megabytes_that_holds_the_interpreter_never_waits(caplog: pytest.LogCaptureFixture) -> None:
    """A thread cannot read meanwhile: with a pipe that blocks this would never end."""
    source, words = open_pipe()
    reader = Reader(source, Lines("service"))
    reader.start()
    write = ctypes.PyDLL(None).write  # unlike those of a CDLL, its functions keep the interpreter
    line = b"Fax3Decode1D: Bad code word at line 26 of strip 0 (x 9).\n"
    began = time.monotonic()
    for _ in range(10):
        write(words, 10_000 * line, 10_000 * len(line))
    assert time.monotonic() - began < 30.0
    reader.finish(words)
    os.close(words)
    assert not reader.is_alive()
    assert messages(caplog)[:LINES] == [f"service: {line.decode().strip()}"] * LINES
    assert len(messages(caplog)) == LINES + 1


def test_nobody_waits_for_a_reader_that_is_gone() -> None:
    source, words = open_pipe()
    written = 0
    with pytest.raises(BlockingIOError):
        while True:
            written += os.write(words, bytes(65_536))
    assert written >= 65_536
    os.close(source)
    os.close(words)


def test_a_reader_ends_behind_its_last_writer(caplog: pytest.LogCaptureFixture) -> None:
    source, words = open_pipe()
    reader = Reader(source, Lines("worker 7"))
    reader.start()
    os.write(words, b"my last words")
    os.close(words)
    reader.join(5.0)
    assert not reader.is_alive()
    assert messages(caplog) == ["worker 7: my last words"]
    with pytest.raises(OSError):
        os.fstat(source)


def test_a_reader_tells_the_end_of_a_minute_by_itself_and_sleeps_otherwise(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = 0
    pause = library_lines.Lines.pause

    def count(lines: Lines) -> float | None:
        nonlocal polls
        polls += 1
        return pause.fget(lines)  # type: ignore[misc]

    monkeypatch.setattr(library_lines.Lines, "pause", property(count))
    source, words = open_pipe()
    reader = Reader(source, Lines("service", seconds=0.3))
    reader.start()
    os.write(words, b"a\n" * 100)
    patience = time.monotonic() + 20
    while len(messages(caplog)) <= LINES:
        assert time.monotonic() < patience
        time.sleep(0.05)
    time.sleep(0.3)
    assert messages(caplog)[LINES].startswith("service: ... and 95 more lines")
    assert polls <= 5
    reader.finish(words)
    os.close(words)

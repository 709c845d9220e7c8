"""What reaches stdout and stderr of a process whose streams are taken: each case in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

BEGIN = """
import asyncio, ctypes, io, logging, os, subprocess, sys, threading, time, warnings
from service.logs import set_up_logging
from service.streams import Streams
streams = Streams()
set_up_logging(FORM, "info")
"""
END = "\nstreams.end()\nos._exit(0)\n"
WORKER = """
from service.workers.worker import Worker
from service.workers.process import WarmUp
from tests.service import noise
from tests.service.emulated import Emulated, image

async def run(factory, after):
    worker = Worker(factory, WarmUp())
    await worker.start()
    try:
        after(await worker.run([image()]))
    except Exception as error:
        logging.info("it failed: %s", error)
        await asyncio.sleep(0.5)
    await worker.stop()
"""


def run(program: str, form: str = "json", end: str = END) -> "subprocess.CompletedProcess[bytes]":
    words = [sys.executable, "-W", "default", "-c", f"FORM = {form!r}{BEGIN}{program}{end}"]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60)


def entries(program: str, end: str = END) -> list[dict[str, str]]:
    """The log of a program, each line of which has to be JSON; nothing goes to stdout."""
    done = run(program, end=end)
    assert done.stdout == b""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_whatever_is_written_becomes_a_record() -> None:
    found = entries("""
os.write(2, b"written to 2\\n")
os.write(1, b"written to 1\\n")
ctypes.CDLL(None).printf(b"by printf\\n")
print("printed")
subprocess.run(["sh", "-c", "echo by a program >&2"])
""")
    assert {entry["logger"] for entry in found} == {"libraries"}
    words = ["written to 2", "written to 1", "by printf", "printed", "by a program"]
    assert [entry["message"] for entry in found] == [f"service: {each}" for each in words]


def test_what_python_tells_of_errors_and_warnings_is_a_record_each() -> None:
    found = entries("""
def fail(*_):
    raise ValueError("no")
async def lose():
    task = asyncio.ensure_future(asyncio.sleep(0, fail))
    task = asyncio.ensure_future(asyncio.to_thread(fail))
    await asyncio.sleep(0.2)
class Unraisable:
    __del__ = fail
thread = threading.Thread(target=fail, name="a thread")
thread.start()
thread.join()
Unraisable()
for _ in range(3):
    warnings.warn("two\\nlines")
asyncio.run(lose())
""")
    told = {entry["logger"]: entry["message"] for entry in found}
    assert told["py.warnings"].startswith("UserWarning: two\nlines (<string>:")
    assert told["asyncio"].startswith("Task exception was never retrieved")
    ours = [entry for entry in found if entry["logger"] == "service.streams"]
    assert [entry["message"].split(" <")[0] for entry in ours] == [
        "The thread a thread ended by an error.",
        "Exception ignored in: fail",
    ]
    assert all(entry["trace"].endswith("ValueError: no") for entry in [*ours, *found[-1:]])
    assert len(found) == 4


def test_an_error_that_ends_the_process_is_a_record_and_the_status_stays() -> None:
    done = run('raise ValueError("no")')
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["trace"].endswith("ValueError: no")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_file_that_libtiff_complains_of_without_end_writes_less_than_two_kilobytes(form: str) -> None:
    """Also where the product has silenced libtiff: Pillow reads it here alone."""
    program = """
from PIL import Image
from tests.service.noise import fax_noise
for compression in (3, 4):
    file = Image.open(io.BytesIO(fax_noise(compression=compression)))
    try:
        file.load()
    except OSError:
        pass
"""
    done = run(program, form)
    assert done.returncode == 0 and done.stdout == b""
    assert b"Bad code word" in done.stderr and b"more lines of libraries" in done.stderr
    assert len(done.stderr) <= 2048
    assert len(done.stderr.splitlines()) == 6


def test_the_text_form_has_one_line_a_record() -> None:
    done = run('logging.warning("a\\nb\\r\\x1b[2J\\u2028%s", "x" * 5000)\nwarnings.warn("two\\nlines")', "text")
    first, second = done.stderr.decode().splitlines()
    assert first.split("root: ")[1].startswith("a\\nb\\r\\x1b[2J\\u2028xxx")
    assert len(first) < 1100
    assert "UserWarning: two\\nlines" in second


def test_the_streams_are_given_back() -> None:
    done = run('os.write(2, b"taken\\n")\nstreams.close()\nprint("error: ours", file=sys.stderr)\nprint("out")', end="")
    first, last = done.stderr.splitlines()
    assert json.loads(first)["message"] == "service: taken"
    assert last == b"error: ours"
    assert done.stdout == b"out\n"


def test_closed_streams_are_no_ones_files() -> None:
    program = f"FORM = 'json'{BEGIN}os.write(2, b'lost')\nprint(os.readlink('/proc/self/fd/2'), file=sys.stderr){END}"
    words = ["sh", "-c", 'exec "$@" 2>&- >&- <&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(words, cwd=ROOT, timeout=60).returncode == 0


def test_prints_do_not_fail_where_the_pipe_is_full() -> None:
    found = entries("""
switch = sys.getswitchinterval()
sys.setswitchinterval(1000)
for _ in range(50):
    print("x" * 100_000)
sys.stdout.flush()
sys.setswitchinterval(switch)
logging.info("done")
""")
    assert [entry["message"] for entry in found if entry["logger"] == "root"] == ["done"]


def test_a_worker_writes_to_the_log_and_its_libraries_within_the_budget() -> None:
    found = entries(WORKER + "asyncio.run(run(noise.Noisy, lambda _: logging.info('answered')))")
    told = [entry["message"] for entry in found if entry["logger"] == "libraries"]
    assert told[0].startswith("worker ") and told[0].endswith(": oneDNN ?: 0 ?[31m is odd")
    assert told[-1].endswith("a primitive, 499 | and a print")
    assert len(told) == 6
    assert sum(entry["message"] == "answered" for entry in found) == 1


def test_a_worker_that_aborts_leaves_its_last_words() -> None:
    found = entries(WORKER + "asyncio.run(run(noise.Dying, print))")
    told = [entry["message"] for entry in found if entry["logger"] == "libraries"]
    assert [entry["level"] for entry in found if entry["logger"] == "libraries"] == ["warning"] * 5 + ["error"]
    assert "free(): invalid pointer" in told[-1]
    assert "Fatal Python error: Aborted" in told[-1]
    assert "in predict" in told[-1]
    assert len(told) == 6


def test_a_worker_reads_the_last_words_of_a_service_that_aborts() -> None:
    program = "asyncio.run(run(Emulated, lambda _: (os.write(2, b'malloc(): corrupted top size\\n'), os.abort())))"
    done = run(WORKER + program)
    assert done.returncode == -signal.SIGABRT
    found = [json.loads(line) for line in done.stderr.splitlines()]
    told = [entry for entry in found if entry["logger"] == "libraries"]
    assert len(told) == len(found) - 1  # the worker has said that it is ready
    assert told[0]["message"] == "service: malloc(): corrupted top size"
    assert told[1]["message"] == "service: Fatal Python error: Aborted"


def test_workers_of_a_process_whose_streams_are_its_own_keep_theirs(tmp_path: Path) -> None:
    program = f"import logging, asyncio, time{WORKER}asyncio.run(run(noise.Noisy, lambda _: None))"
    with (tmp_path / "err").open("wb") as file:
        words = [sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(words, cwd=ROOT, env=environment, stderr=file, timeout=60, check=True)
    assert (tmp_path / "err").read_bytes().count(b"oneDNN") == 500

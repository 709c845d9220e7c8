"""How commands end, and what their arguments take. Each command is also typed in the tests of its own module."""

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from model import archive
from model.archive import ArchiveError
from model.checkpoint import CheckpointError
from model.command import (
    CommandError,
    add_device,
    need,
    new_parser,
    not_negative,
    number,
    path_name,
    positive,
    positives,
    run,
    share,
    threads,
)
from model.datasets.records import AnnotationError
from tests.model.typed import typed
from tests.paths import ROOT

COMMANDS = ["predict", "export", "convert", "evaluate", "training", "benchmark"]


def ends(outcome: Any) -> int:
    """Exit status of a command that returns or raises this."""

    def main() -> int | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_the_status_of_a_command_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert [ends(None), ends(0), ends(1)] == [0, 0, 1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [CommandError, ArchiveError, CheckpointError, AnnotationError])
def test_a_users_mistake_is_one_line(kind: type[CommandError], capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(kind("No photos in a. Name another folder.")) == 1
    assert capsys.readouterr().err == "error: No photos in a. Name another folder.\n"


def test_what_the_operating_system_refuses_is_one_line_that_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(FileNotFoundError(2, "No such file or directory", "a/b.json")) == 1
    assert capsys.readouterr().err == "error: [Errno 2] No such file or directory: 'a/b.json'\n"


@pytest.mark.parametrize("bug", [ValueError("no median for empty data"), KeyError("x"), OSError("cannot write RGBA")])
def test_a_bug_shows_its_trace(bug: Exception) -> None:
    with pytest.raises(type(bug)):
        run(lambda: ends(bug))


def test_a_stopped_command_says_so_without_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_message_is_one_line_of_signs_that_a_terminal_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(CommandError("a\nb\x1b[2J\udcff ü.jpg does not exist.\n  Name another.\n")) == 1
    assert capsys.readouterr().err == "error: a b\\x1b[2J\\udcff ü.jpg does not exist. Name another.\n"


@pytest.mark.parametrize("shortage", [RuntimeError("CUDA out of memory. Tried"), MemoryError()])
def test_short_memory_is_one_line(shortage: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(shortage) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {type(shortage).__name__}")
    assert said.endswith(". Memory is short: use a smaller size, or fewer at a time.\n")


def test_an_interrupt_inside_an_operator_is_one_line(
    tiny_archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TorchScript calls it, and raises an error of its own that quotes the network's code."""
    network, _ = archive.load(tiny_archive)
    monkeypatch.setattr("torch.nn.functional.conv2d", lambda *_, **__: signal.raise_signal(signal.SIGINT))

    def main() -> None:
        with torch.inference_mode():
            network([archive.sample_picture()])

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    "unwritten",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 987904 vs 987792\nframe #0: c10"),
    ],
)
def test_a_disk_that_is_full_for_a_library_is_one_line(
    unwritten: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(unwritten) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {type(unwritten).__name__}: ")
    assert said.endswith(". A file could not be written: is the disk full?\n")
    assert said.count("\n") == 1


def test_a_missing_extra_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "This needs pycocotools, of the extra `train`. Install it with `uv sync --extra train`."
    assert ends(ModuleNotFoundError("No module named 'pycocotools'", name="pycocotools")) == 1
    assert capsys.readouterr().err == f"error: {line}\n"
    with pytest.raises(ModuleNotFoundError):
        run(lambda: ends(ModuleNotFoundError("No module named 'lost'", name="lost")))
    need("pycocotools")
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(CommandError, match=re.escape(line)):
        need("pycocotools")


def test_an_interrupt_while_torch_is_imported_leaves_no_trace() -> None:
    """Each command lets the signal end the process until `run` begins."""
    for name in COMMANDS:
        spec = importlib.util.find_spec(f"model.{name}")
        assert spec and spec.origin
        path = Path(spec.origin)
        text = (path.with_name("__main__.py") if path.name == "__init__.py" else path).read_text()
        before = re.split(r"\n(?:import torch|from (?:PIL|tqdm|model(?!\.begin)))\b", text)[0]
        assert "\n    begin()\n" in before, name


PROGRAM = "from model.command import run\nrun(lambda: print({what}))"


@pytest.mark.parametrize("what", ["'x'", "'x\\n' * 100000"])
def test_a_reader_that_has_ended_is_one_line(what: str) -> None:
    command = f'{sys.executable} -c "{PROGRAM.format(what=what)}" | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", f"trap '' PIPE; {command}"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "stopped: what read the output has ended\n")


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", PROGRAM.format(what="'x'")]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")


def test_output_is_printed_whatever_bytes_a_name_has() -> None:
    command = [sys.executable, "-c", PROGRAM.format(what="'ü', chr(0xdcff)")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, b"\\xfc \\udcff\n")


def test_a_parser_takes_its_words_from_the_docstring() -> None:
    parser = new_parser("`python -m model.draw`: lines.\n\n    python -m model.draw a --out b\n    another\n\nMore.\n")
    assert (parser.prog, parser.description) == ("python -m model.draw", "`python -m model.draw`: lines.")
    assert parser.epilog == "Example: python -m model.draw a --out b"


def test_device_and_precision_are_chosen_automatically_unless_they_are_given() -> None:
    parser = argparse.ArgumentParser()
    add_device(parser)
    assert vars(parser.parse_args([])) == {"device": "auto", "precision": "auto"}
    assert parser.parse_args(["--device", "cuda:1", "--precision", "float16"]).device == "cuda:1"
    for wrong in (["--precision", "int3"], ["--device", "gpu"], ["--device", "cuda:x"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)


def test_counts_are_whole_numbers_above_0() -> None:
    assert positive("12") == 12
    assert positives("320, 480") == [320, 480]
    for wrong in ("0", "-1", "+1", "1.5", "1e3", "big", "", "1_0", "0x1", "9" * 30):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number above 0, got"):
            positives(f"1,{wrong}")


def test_other_numbers_have_bounds() -> None:
    for read, wrong in ((positive, "1000000001"), (not_negative, "1000000001"), (threads, "1025"), (threads, "0")):
        with pytest.raises(argparse.ArgumentTypeError, match=f"expected a whole number .*, got '{wrong}'"):
            read(wrong)
    with pytest.raises(argparse.ArgumentTypeError, match="expected a path, got ''"):
        path_name("")
    assert (threads("1024"), path_name("a/b")) == (1024, Path("a/b"))
    assert (not_negative("0"), number("0.5"), share("1")) == (0, 0.5, 1.0)
    for read, wrong in ((not_negative, "-3"), (number, "-0.1"), (number, "nan"), (number, "inf"), (share, "1.5")):
        with pytest.raises(argparse.ArgumentTypeError, match=rf"expected a .*number, .*, got '{wrong}'"):
            read(wrong)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("predict", ["--max-pixels", "-3"]),
        ("export", ["--score", "2"]),
        ("export", ["--stuff-area", "-1"]),
        ("training", ["--steps", "0"]),
        ("training", ["--minutes", "-1"]),
        ("training", ["--checkpoint-seconds", "soon"]),
        ("evaluate", ["--processes", "1.5"]),
    ],
)
def test_a_number_out_of_bounds_is_bad_usage(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"model.{name}", *words) == 2
    assert f"error: argument {words[0]}: expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"model.{name}", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"usage: python -m model.{name} ")
    assert f"Example: uv run python -m model.{name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_what_it_does_not_know(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"model.{name}", "--no-such-option") == 2
    assert "error:" in capsys.readouterr().err

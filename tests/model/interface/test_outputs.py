"""Files that are written in one step, where that was found possible before."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model.interface.outputs import OutputError, check_file, check_folder, write
from tests.paths import ROOT


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("weights")
    (tmp_path / "link").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "link", tmp_path / "x/../a"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match=r"is read by this command too: name another file to write to\.$"):
            check_file(path, tmp_path / "missing", tmp_path / "a")
    check_file(tmp_path / "b", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "weights"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("far/a")
    check_file(tmp_path / "link")
    assert [path.name for path in (tmp_path / "far").iterdir()] == []
    write(tmp_path / "link", "ü")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far/a").read_bytes() == "ü".encode()


def test_a_place_in_proc_and_a_loop_of_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for check in (check_file, check_folder):
        with pytest.raises(OutputError, match=r"cannot be written|no folder"):
            check(Path("/proc/a"))
        with pytest.raises(OutputError, match=r"leads to itself|no folder"):
            check(tmp_path / "a")


def test_a_new_file_has_the_mode_of_others_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / "old").touch(mode=0o600)
    for name in ("new", "old"):
        write(tmp_path / name, b"content")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"other": modes["new"], "new": modes["other"], "old": 0o600}


def test_a_pipe_and_a_device_are_written_to_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    thread.start()
    write(tmp_path / "pipe", "figures")
    thread.join()
    write(Path("/dev/null"), "figures")
    assert read == [b"figures"]
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


def test_standard_output_that_goes_to_a_file_is_written_to(tmp_path: Path) -> None:
    program = "from pathlib import Path; from model.interface.outputs import *; p = Path('/dev/stdout'); "
    program += "check_file(p); write(p, 'figures')"
    with open(tmp_path / "log", "w") as log:
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=log, check=True)
        assert os.fstat(log.fileno()).st_ino == (tmp_path / "log").stat().st_ino
    assert (tmp_path / "log").read_text() == "figures"


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "a", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_names_may_be_as_long_as_the_system_lets_them(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        check_file(tmp_path / name)
        write(tmp_path / name, "long")
        assert (tmp_path / name).read_text() == "long"


def test_the_folders_of_an_output_are_made_and_nothing_else(tmp_path: Path) -> None:
    check_file(tmp_path / "a/b/scores.json")
    check_folder(tmp_path / "a/c/d")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["a", "a/b", "a/c", "a/c/d"]


def test_an_output_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("old")
    check_file(tmp_path / "scores.json")
    check_folder(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null")):
        check_file(place)


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "nowhere").symlink_to(tmp_path / "lost/x")
    with pytest.raises(OutputError, match=r"/test_a_file_.* is a folder: name a file in it to write to\.$"):
        check_file(tmp_path)
    for check, name, part in (
        (check_folder, "file", "file is no folder: name one to write to"),
        (check_file, "file/x.json", "file is no folder: name one to write to"),
        (check_folder, "file/x", "file/x cannot be written to: Not a directory"),
        (check_folder, "nowhere", "nowhere is no folder"),
        (check_file, "x" * 300, "cannot be written: File name too long"),
        (check_folder, "x" * 300, "cannot be written to: File name too long"),
    ):
        with pytest.raises(OutputError, match=part):
            check(tmp_path / name)


def test_what_the_operating_system_does_not_let_be_written_is_refused(tmp_path: Path) -> None:
    """In `/proc`, where not even root makes a file."""
    for place in (Path("/proc/scores.json"), Path("/proc/a/scores.json")):
        with pytest.raises(OutputError, match=r"^/proc.* cannot be written.*: .*\. Name another place\.$"):
            check_file(place)
    for place in (Path("/proc"), Path("/proc/a")):
        with pytest.raises(OutputError, match=r"^/proc.* cannot be written to: .*\. Name another place\.$"):
            check_folder(place)
    (tmp_path / "folder").mkdir(mode=0o500)
    (tmp_path / "file").touch(mode=0o400)
    if os.geteuid():  # root may
        with pytest.raises(OutputError, match="file cannot be written: Permission denied"):
            check_file(tmp_path / "file")
        with pytest.raises(OutputError, match="folder cannot be written to: Permission denied"):
            check_folder(tmp_path / "folder")

"""The journal of those photos that are done, and the list of them at the end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.command import CommandError
from model.interface.categories import Category, Labels
from model.interface.outputs import OutputError
from model.predict.journal import Journal
from model.predict.photos import JOURNAL, Photo
from tests.paths import ROOT

LABELS = Labels((Category(7, "road", False, (128, 64, 128)),))
ENTRY = {"photo": "/in/a.png", "model": "tiny@1", "id": 2, "name": "a", "height": 2, "width": 3, "segments_info": []}


def read(folder: Path, model: str = "tiny@1") -> dict[str, Any]:
    """What a run finds done."""
    with Journal(folder, model) as journal:
        return journal.done


def write(folder: Path, *entries: dict[str, Any]) -> None:
    with Journal(folder, "tiny@1") as journal:
        for entry in entries:
            journal.add(entry)


def test_the_next_run_reads_what_was_done_but_a_line_cut_short(tmp_path: Path) -> None:
    write(tmp_path / "out", ENTRY)
    with (tmp_path / "out" / JOURNAL).open("a") as file:
        file.write('{"photo": "in/b.p')
    assert read(tmp_path / "out") == {"/in/a.png": ENTRY}
    second = {**ENTRY, "photo": "/in/b.png"}
    write(tmp_path / "out", second)
    assert read(tmp_path / "out") == {"/in/a.png": ENTRY, "/in/b.png": second}


def test_lines_that_are_no_entries_do_not_count(tmp_path: Path) -> None:
    odd: list[dict[str, Any]] = [{"photo": ["a"]}, {"name": 5}, {"id": "x"}, {"segments_info": None}, {"model": 1}]
    lines = [b"null", b"{}", b"\xff\xfe", b'{"photo": "a"}']
    lines += [json.dumps(ENTRY | change).encode() for change in [*odd, {}]]
    (tmp_path / JOURNAL).write_bytes(b"\n".join(lines))
    assert read(tmp_path) == {"/in/a.png": ENTRY}


def test_a_folder_with_another_models_answers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    with pytest.raises(CommandError, match=r"holds answers of tiny@1, this archive is large@2\. Name another folder"):
        Journal(tmp_path, "large@2")


@pytest.mark.parametrize("name", ["panoptic.json", "panoptic/0001.png", "overlay/0001.jpg"])
def test_a_folder_with_files_of_another_origin_is_refused(tmp_path: Path, name: str) -> None:
    """It may be a data set with its annotations."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(CommandError, match=r"holds \S+ and no progress\.jsonl: it is not from this command"):
        Journal(tmp_path, "tiny@1")
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_takes_one_run_at_a_time(tmp_path: Path) -> None:
    program = "from pathlib import Path; from model.predict.journal import Journal; Journal(Path({!r}), 'tiny@1')"
    command = [sys.executable, "-c", program.format(str(tmp_path))]
    with Journal(tmp_path, "tiny@1"):
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert f"CommandError: Another run is writing to {tmp_path}. Stop it first, or name another" in other.stderr
    assert "CommandError" not in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stderr


def test_a_file_in_place_of_the_pictures_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).touch()
    (tmp_path / "panoptic").touch()
    with pytest.raises(OutputError, match="panoptic is no folder: name one to write to"):
        Journal(tmp_path, "tiny@1")


def test_a_list_of_answers_that_could_not_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "panoptic.json").mkdir()
    with pytest.raises(OutputError, match=r"panoptic\.json is a folder: name a file in it to write to"):
        Journal(tmp_path, "tiny@1")


@pytest.mark.parametrize("above", [".", "work"])
def test_entries_of_0_2_0_count_where_their_photos_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str
) -> None:
    """They noted a path as it was typed, in the folder of that run: it may be this one, or one above the answers."""
    (tmp_path / "work/in").mkdir(parents=True)
    (tmp_path / "work/in/a.png").touch()
    old = [{**ENTRY, "photo": name} for name in ("in/../in/a.png", "in/b.png", str(tmp_path / "work/./in/a.png"))]
    out = tmp_path / ("out" if above == "." else "work/out")
    out.mkdir()
    (out / JOURNAL).write_text("".join(json.dumps({k: v for k, v in e.items() if k != "id"}) + "\n" for e in old[:2]))
    monkeypatch.chdir(tmp_path / "work" if above == "." else tmp_path)
    assert list(read(out)) == [str(tmp_path / "work/in/a.png"), "in/b.png"]
    (out / JOURNAL).write_text(json.dumps({k: v for k, v in old[2].items() if k != "id"}))
    assert list(read(out)) == [str(tmp_path / "work/in/a.png")]


def test_a_photo_is_answered_while_its_pictures_are_there(tmp_path: Path) -> None:
    with Journal(tmp_path, "tiny@1") as journal:
        journal.add(ENTRY)
        photo = Path("/in/a.png")
        assert (journal.is_answered(photo), journal.is_drawn(photo)) == (False, False)
        (tmp_path / "panoptic/a.png").touch()
        (tmp_path / "overlay").mkdir()
        (tmp_path / "overlay/a.jpg").touch()
        assert (journal.is_answered(photo), journal.is_drawn(photo)) == (True, True)
        assert not journal.is_answered(Path("/in/b.png"))


def test_the_end_lists_the_photos_that_are_done(tmp_path: Path) -> None:
    old = {key: value for key, value in ENTRY.items() if key != "id"}
    photos = [Photo(1, Path("/in/b.png"), "b", "b.png"), Photo(2, Path("/in/a.png"), "a", "deep/a.png")]
    with Journal(tmp_path, "tiny@1") as journal:
        journal.add(old)
        journal.finish(photos, LABELS)
    assert json.loads((tmp_path / "panoptic.json").read_text()) == {
        "images": [{"id": 2, "file_name": "deep/a.png", "height": 2, "width": 3}],
        "annotations": [{"image_id": 2, "file_name": "a.png", "segments_info": []}],
        "categories": [{"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}],
    }
    assert read(tmp_path) == {"/in/a.png": ENTRY}  # it has its id from now on

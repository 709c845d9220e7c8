"""Which files are photos to segment, how they are told apart, and what they are called."""

import os
from pathlib import Path
from typing import Any

import pytest

from model.command import CommandError
from model.predict.photos import JOURNAL, Photo, find_photos


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere/out"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(inputs: list[Path], out: Path) -> list[str]:
    """What panoptic.json calls the photos; nothing is wrong with any."""
    photos, faults = find_photos(inputs, out, {})
    assert faults == []
    return [photo.file for photo in photos]


def test_folders_are_searched_and_files_are_taken_whatever_their_ending(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "deep/c.webp", "notes.txt", "deep.jpg/d.tif")
    assert found([tmp_path], out) == ["a.png", "b.JPG", "deep/c.webp", "deep.jpg/d.tif"]
    photos, _ = find_photos([tmp_path / "notes.txt", tmp_path / "a.png"], out, {})
    assert photos == [
        Photo(1, tmp_path / "notes.txt", "notes", "notes.txt"),
        Photo(2, tmp_path / "a.png", "a", "a.png"),
    ]


def test_a_missing_input_and_a_folder_without_photos_are_refused(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("no.jpg", "file/no.jpg"):
        with pytest.raises(CommandError, match=rf"{name} does not exist\. Name photos or folders of photos"):
            find_photos([tmp_path / name], out, {})
    with pytest.raises(CommandError, match=r"pipe is neither a file nor a folder"):
        find_photos([tmp_path / "pipe"], out, {})
    with pytest.raises(CommandError, match=r"No photos in .*\. Known endings: \.bmp, "):
        find_photos([tmp_path], out, {})
    with pytest.raises(OSError, match="too long"):
        find_photos([tmp_path / ("x" * 300)], out, {})


def test_one_photo_is_one_however_it_is_named(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/deep/a.jpg")
    (tmp_path / "in/link.jpg").symlink_to("deep/a.jpg")
    (tmp_path / "in/again").symlink_to("deep")
    (tmp_path / "photos").symlink_to("in")
    monkeypatch.chdir(tmp_path / "in")
    wanted = tmp_path / "in/deep/a.jpg"
    for name in ("deep/a.jpg", "./deep/../deep/a.jpg", "../in/deep/a.jpg", "link.jpg", "again/a.jpg", "../photos", "."):
        for inputs in ([Path(name)], [wanted, Path(name)], [Path(name), wanted], [tmp_path, Path(name)]):
            assert [photo.path for photo in find_photos(inputs, out, {})[0]] == [wanted], inputs
    assert found([Path("../photos")], out) == ["deep/a.jpg"]  # the file itself goes before links to it
    assert found([Path("link.jpg")], out) == ["link.jpg"]


def test_links_are_followed_and_loops_end(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "in/a.jpg", "far/deep/b.jpg", "store/c0ffee")
    (tmp_path / "in/loop").symlink_to("..")
    (tmp_path / "in/self").symlink_to("self")
    (tmp_path / "in/c.jpg").symlink_to("../store/c0ffee")
    assert found([tmp_path / "in"], out) == ["a.jpg", "c.jpg", "loop/far/deep/b.jpg"]
    (tmp_path / "in/self.jpg").symlink_to("self.jpg")
    (tmp_path / "in/lost.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "in/pipe.jpg")
    photos, faults = find_photos([tmp_path / "in"], out, {})
    assert [photo.name for photo in photos] == ["a", "c", "b"]
    assert faults == [
        f"{tmp_path}/in/lost.jpg: a link to nothing",
        f"{tmp_path}/in/pipe.jpg: not a file",
        f"{tmp_path}/in/self.jpg: a link to nothing",
    ]


def test_hidden_files_are_left_out_of_a_search(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/._a.jpg", "in/.cache/b.jpg", ".in/c.jpg")
    assert found([tmp_path / "in"], out) == ["a.jpg"]
    assert found([tmp_path / ".in", tmp_path / "in/._a.jpg"], out) == ["c.jpg", "._a.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/closed/b.jpg")
    (tmp_path / "in/closed").chmod(0)
    try:
        photos, faults = find_photos([tmp_path / "in"], out, {})
    finally:
        (tmp_path / "in/closed").chmod(0o700)
    assert [photo.name for photo in photos] == ["a"]
    assert faults == [f"{tmp_path}/in/closed: Permission denied"]


def test_answers_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/panoptic/mine.jpg", f"in/old/{JOURNAL}", "in/old/panoptic/a.png", "in/old/b.jpg")
    touch(tmp_path, "in/new/panoptic/a.png", "in/new/overlay/a.jpg", "in/old/overlay/a.jpg")
    (tmp_path / "in/link").symlink_to("old/overlay")
    (tmp_path / "in/link.png").symlink_to("new/panoptic/a.png")
    (tmp_path / "out").symlink_to("in/new")
    for out in (tmp_path / "in/new", tmp_path / "out", tmp_path / "in/old/../new"):
        assert found([tmp_path / "in"], out) == ["a.jpg", "old/b.jpg", "panoptic/mine.jpg"]
    assert found([tmp_path / "in/old"], out) == ["b.jpg"]
    assert found([tmp_path / "in/old/panoptic"], out) == ["a.png"]  # who names it means it
    for given in ("in/new/panoptic", "in/new/panoptic/a.png", "out/overlay/a.jpg", "in/link.png"):
        with pytest.raises(CommandError, match=rf"{given} is where answers are written\. Name the photos, or another"):
            find_photos([tmp_path / given], out, {})


def test_the_answers_of_a_run_into_the_photos_own_folder_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", JOURNAL, "panoptic/a.png", "overlay/a.jpg")
    assert found([tmp_path], tmp_path) == ["a.jpg"]


def test_a_photo_is_called_by_its_path_below_the_outermost_folder_that_was_given(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "x/a/1.jpg", "x/b/1.jpg", "y/a/1.jpg", "z/2.jpg")
    x, y, z = (tmp_path / name for name in "xyz")
    assert found([x], out) == ["a/1.jpg", "b/1.jpg"]
    assert found([x / "a/1.jpg", x], out) == ["a/1.jpg", "b/1.jpg"]
    assert found([x / "b", x], out) == ["b/1.jpg", "a/1.jpg"]
    assert found([x / "a/1.jpg", z], out) == ["1.jpg", "2.jpg"]
    assert found([x, y, z], out) == ["x/a/1.jpg", "x/b/1.jpg", "y/a/1.jpg", "z/2.jpg"]  # two would be a/1.jpg
    assert found([x / "a/1.jpg", x / "b/1.jpg"], out) == ["a/1.jpg", "b/1.jpg"]


def test_photos_of_one_name_are_kept_apart_in_a_resumed_run_too(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, "a/same.jpg", "b/same.jpg", "b/same~2.jpg", "c/SAME.jpg")
    inputs = [tmp_path, tmp_path / "a/same.jpg"]

    def names(done: dict[str, dict[str, Any]]) -> list[tuple[int, str]]:
        return [(photo.number, photo.name) for photo in find_photos(inputs, out, done)[0]]

    assert names({}) == [(1, "same"), (2, "same~2"), (3, "same~2~2"), (4, "SAME~3")]
    done = {str(tmp_path / "b/same.jpg"): {"name": "same", "id": 1}}  # before the photo in `a` came
    assert names(done) == [(2, "same~2"), (1, "same"), (3, "same~2~2"), (4, "SAME~3")]
    old: dict[str, dict[str, Any]] = {str(tmp_path / "b/same.jpg"): {"name": "same"}, "gone.jpg": {"name": "same~2"}}
    assert names(old) == [(1, "same~3"), (2, "same"), (3, "same~2~2"), (4, "SAME~4")]


def test_a_stopped_run_goes_on_with_the_ids_that_it_would_have_given(tmp_path: Path, out: Path) -> None:
    touch(tmp_path, *(f"{number}.jpg" for number in range(6)))
    photos, _ = find_photos([tmp_path], out, {})
    done = {str(photo.path): {"name": photo.name, "id": photo.number} for photo in photos[2:4]}
    assert find_photos([tmp_path], out, done)[0] == photos


def test_names_of_any_bytes_and_length_are_taken(tmp_path: Path, out: Path) -> None:
    names = [
        "a\nb.jpg",
        os.fsdecode(b"\xff\xfe.jpg"),
        "ü" * 125 + ".jpg",
        "x" * 250 + ".jpg",
        "x" * 251 + ".png",
        "~.gif",
    ]
    touch(tmp_path, *names)
    photos, faults = find_photos([tmp_path], out, {})
    assert ({photo.file for photo in photos}, faults) == (set(names), [])
    assert len({photo.name for photo in photos}) == len(names)
    assert max(len(os.fsencode(photo.name)) for photo in photos) == 202

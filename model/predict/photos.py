"""The photos among files and folders, told apart by where they are, with an id and names that later runs keep."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from model.command import CommandError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".mpo", ".gif"}
JOURNAL = "progress.jsonl"
ANSWERS = ("panoptic", "overlay")
"""Folders of the pictures that are written, beside the journal."""
NAME_BYTES = 200
"""Of a name that is written: file systems take 255, with an ending and with `~2`."""


class Photo(NamedTuple):
    """A photo to segment.

    Attributes:
        number: image id in panoptic.json; a photo keeps it in later runs.
        path: where the photo is: absolute and without links, so that one photo has one path however it was named.
        name: stem of the files to write. No two photos share one, and a photo keeps its name in later runs.
        file: its path below the folder that was given, for panoptic.json; its name where the file was given.
    """

    number: int
    path: Path
    name: str
    file: str


def find_photos(
    inputs: Sequence[Path], out: Path, done: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Photo], list[str]]:
    """Photos among files and folders, in a fixed order, and what cannot be read: a line for each.

    Folders are searched to any depth, through links too. Left out are hidden files and folders, and the pictures that
    this command wrote: those in `out`, and those in any folder of answers that is met on the way.

    Args:
        inputs: files and folders.
        out: folder to write.
        done: entries of the journal, by photo.

    Raises:
        CommandError: an input does not exist or is where answers are written, or there are no photos.
    """
    answers = {os.path.join(os.path.realpath(out), name) for name in ANSWERS}
    roots: list[str] = []
    spellings: dict[str, str] = {}
    faults: list[str] = []
    for given in inputs:
        real = os.path.realpath(given)
        if any(Path(real).is_relative_to(folder) for folder in answers):
            raise CommandError(f"{given} is where answers are written. Name the photos, or another --out.")
        if is_folder(given):
            roots.append(real)
            found = photos_below(real, answers, faults)
        else:
            path = os.path.join(os.path.realpath(given.parent), given.name) if given.name else real
            found = {real: path}
        for path in sorted(found, key=lambda path: Path(found[path])):
            spellings.setdefault(path, found[path])
    if not spellings:
        why = f" ({'; '.join(faults)})" if faults else ""
        endings = ", ".join(sorted(SUFFIXES))
        raise CommandError(f"No photos in {', '.join(map(str, inputs))}{why}. Known endings: {endings}.")
    return number(spellings, file_names(list(spellings.values()), roots), done), faults


def is_folder(path: Path) -> bool:
    """Whether an input is a folder or else a file.

    Raises:
        CommandError: it does not exist, or is neither.
        OSError: the operating system does not let it be looked at.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CommandError(f"{path} does not exist. Name photos or folders of photos.") from error
    if not path.is_dir() and not path.is_file():
        raise CommandError(f"{path} is neither a file nor a folder. Name photos or folders of photos.")
    return path.is_dir()


def photos_below(root: str, answers: set[str], faults: list[str]) -> dict[str, str]:
    """The path below a folder of each photo in it, by its path without links; the file itself goes before links to it.

    Args:
        root: the folder, a path without links.
        answers: folders that are left out.
        faults: a line is added for what cannot be read.
    """
    found: dict[str, str] = {}
    links: dict[str, str] = {}
    seen = set(answers)
    tops = [root]
    for top in tops:  # it grows: linked folders come after all others
        for folder, folders, names in os.walk(top, onerror=lambda error: faults.append(told(error))):
            real = os.path.realpath(folder)
            if real in seen or (real != root and holds_answers(real)):
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            tops += [path for name in folders if os.path.islink(path := os.path.join(folder, name))]
            for path in (os.path.join(folder, name) for name in sorted(names) if is_photo(name)):
                place = os.path.realpath(path)
                if not os.path.isfile(place):
                    faults.append(f"{path}: {'a link to nothing' if os.path.islink(path) else 'not a file'}")
                elif not os.path.islink(path):
                    found[place] = path
                elif (home := os.path.dirname(place)) not in answers and not holds_answers(home):
                    links.setdefault(place, path)
    return links | found


def is_photo(name: str) -> bool:
    """Whether a file is taken when its folder is given: by its ending, and it is not hidden (as macOS's `._a.jpg`)."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def told(error: OSError) -> str:
    """What could not be read, and why."""
    return f"{error.filename}: {error.strerror}"


def holds_answers(folder: str) -> bool:
    """Whether this command wrote the pictures in a folder."""
    parent, name = os.path.split(folder)
    return name in ANSWERS and os.path.isfile(os.path.join(parent, JOURNAL))


def file_names(paths: Sequence[str], roots: Sequence[str]) -> list[str]:
    """What panoptic.json calls each photo: a tool joins it to a folder of photos.

    That is the path below the outermost folder that was given, or the name of a file that was given. Where that would
    be the same for two photos, all are named below the folder that the inputs share.
    """
    bases = [
        min((root for root in roots if Path(path).is_relative_to(root)), key=len, default=os.path.dirname(path))
        for path in paths
    ]
    names = [Path(os.path.relpath(path, base)).as_posix() for path, base in zip(paths, bases, strict=True)]
    if len(set(names)) == len(names):
        return names
    shared = os.path.commonpath(bases)
    return [Path(os.path.relpath(path, shared)).as_posix() for path in paths]


def number(spellings: Mapping[str, str], files: Sequence[str], done: Mapping[str, Mapping[str, Any]]) -> list[Photo]:
    """Photos with the ids and names that they have in the journal, or else with the next that are free."""
    taken = {entry["name"].casefold() for entry in done.values()}  # file systems may not tell A from a
    ids = {entry["id"] for entry in done.values() if "id" in entry}
    free = (number for number in count(1) if number not in ids)
    photos = []
    for (path, spelling), file in zip(spellings.items(), files, strict=True):
        entry = done.get(path, {})
        name = entry.get("name") or next(one for one in names_for(spelling) if one.casefold() not in taken)
        taken.add(name.casefold())
        photos.append(Photo(entry["id"] if "id" in entry else next(free), Path(path), name, file))
    return photos


def names_for(path: str) -> Iterator[str]:
    """Names for a photo's files, the best first: its stem, then `STEM~2` and so on."""
    stem = Path(path).stem
    while len(os.fsencode(stem)) > NAME_BYTES:
        stem = stem[:-1]
    return chain([stem], (f"{stem}~{i}" for i in count(2)))

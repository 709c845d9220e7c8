"""The journal of a folder of answers, from which a stopped run goes on, and the folder's panoptic.json."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypeGuard

from model.command import CommandError, check_output_file, check_output_folder, write
from model.interface.categories import Labels
from model.predict.photos import ANSWERS, JOURNAL, Photo

Entry = dict[str, Any]
"""What the journal says of one photo."""
FIELDS = {"photo": str, "model": str, "name": str, "height": int, "width": int, "segments_info": list}
"""Of each entry, with their types; `id`, the photo's id in panoptic.json, is missing in those of 0.2.0."""


def is_entry(entry: Any) -> TypeGuard[Entry]:
    """Whether a line of a journal is an entry: it may be cut short, or of another tool."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id", 1), int):
        return False
    return all(isinstance(entry.get(name), kind) for name, kind in FIELDS.items())


class Journal:
    """A line for each finished photo, which the next run reads, and panoptic.json at the end.

    Until it is closed, at the end of a `with`, no other run writes to the folder.

    Args:
        folder: where answers are written; it is made.
        model: name of the model that gives them.

    Raises:
        CommandError: the folder cannot be written to, another run writes there, or it holds the answers of another
            model or files of another origin.

    Attributes:
        done: entries by photo: absolute paths without links.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        check_output_folder(folder)
        if not (folder / JOURNAL).exists():
            self._refuse_strangers()
        check_output_folder(folder / "panoptic")
        check_output_file(folder / "panoptic.json")
        self._file = (folder / JOURNAL).open("a+b")
        try:
            self._lock()
            self.done = self._read()
        except BaseException:
            self._file.close()
            raise

    def _refuse_strangers(self) -> None:
        """Refuse a folder with files of the names that are written, which are not this command's."""
        for name in ("panoptic.json", *ANSWERS):
            path = self.folder / name
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise CommandError(
                    f"{self.folder} holds {name} and no {JOURNAL}: it is not from this command, and would be written "
                    "over. Name another folder."
                )

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"Another run is writing to {self.folder}. Stop it first, or name another --out."
            ) from None
        except OSError:
            pass  # a file system without locks

    def _read(self) -> dict[str, Entry]:
        self._file.seek(0)
        content = self._file.read()
        if content and not content.endswith(b"\n"):  # a run was stopped while it wrote
            self._file.write(b"\n")
        done = {}
        for line in content.splitlines():
            entry = None
            with contextlib.suppress(ValueError):  # the line that was being written
                entry = json.loads(line)
            if not is_entry(entry):
                continue
            if entry["model"] != self.model:
                raise CommandError(
                    f"{self.folder} holds answers of {entry['model']}, this archive is {self.model}. "
                    "Name another folder."
                )
            if "id" not in entry:
                entry["photo"] = self._find(entry["photo"])
            done[entry["photo"]] = entry
        return done

    def _find(self, photo: str) -> str:
        """Where the photo of an entry of 0.2.0 is, which noted it as it was typed, seen from some folder."""
        for base in (Path.cwd(), *self.folder.absolute().parents):
            if (base / photo).is_file():
                return os.path.realpath(base / photo)
        return photo

    def is_answered(self, photo: Path) -> bool:
        """Whether a photo is done, and its PNG is there."""
        return self._has(photo, "panoptic", ".png")

    def is_drawn(self, photo: Path) -> bool:
        """Whether the overlay of a photo that is done is there."""
        return self._has(photo, "overlay", ".jpg")

    def _has(self, photo: Path, folder: str, ending: str) -> bool:
        entry = self.done.get(str(photo))
        return entry is not None and (self.folder / folder / f"{entry['name']}{ending}").is_file()

    def add(self, entry: Entry) -> None:
        """Note a photo whose files are written."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        self.done[entry["photo"]] = entry

    def finish(self, photos: Iterable[Photo], categories: Labels) -> None:
        """Write panoptic.json, which lists those of the photos that are done, in one step; note ids that are new."""
        entries = [(photo, self.done[str(photo.path)]) for photo in photos if str(photo.path) in self.done]
        for photo, entry in entries:
            if "id" not in entry:
                self.add({**entry, "id": photo.number})
        content = {
            "images": [
                {"id": photo.number, "file_name": photo.file, "height": e["height"], "width": e["width"]}
                for photo, e in entries
            ],
            "annotations": [
                {"image_id": photo.number, "file_name": f"{e['name']}.png", "segments_info": e["segments_info"]}
                for photo, e in entries
            ],
            "categories": categories.to_json(),
        }
        write(self.folder / "panoptic.json", json.dumps(content))

    def close(self) -> None:
        """Let other runs write to the folder."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

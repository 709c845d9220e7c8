"""Find photos, segment them and write their files, with a journal from which a stopped run goes on."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from model.command import CommandError
from model.interface import codec
from model.interface.categories import Labels
from model.interface.overlay import draw_overlay
from model.interface.panoptic import Panoptic, Pixels
from model.predictor import Predictor
from model.read_ahead import read_ahead

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".mpo", ".gif"}
JOURNAL = "progress.jsonl"
AHEAD = 16
"""Photos that are decoded, or wait for others of their size, at a time."""
Entry = dict[str, Any]
"""What the journal says of one photo."""


class Photo(NamedTuple):
    """A photo to segment.

    Attributes:
        number: image id in panoptic.json.
        path: where the photo is.
        name: stem of the files to write. No two photos share one, and a photo keeps its name in later runs.
    """

    number: int
    path: Path
    name: str


def find_photos(inputs: Sequence[Path], done: Mapping[str, str]) -> list[Photo]:
    """Photos among files and folders, in a fixed order.

    Args:
        inputs: files and folders.
        done: names that an earlier run gave to photos, by path.

    Raises:
        CommandError: an input does not exist, or there are no photos.
    """
    paths: list[Path] = []
    for path in inputs:
        if path.is_dir():
            paths += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        elif path.is_file():
            paths.append(path)
        else:
            raise CommandError(f"{path} does not exist. Name photos or folders of photos.")
    if not paths:
        raise CommandError(f"No photos in {', '.join(map(str, inputs))}. Known endings: {', '.join(sorted(SUFFIXES))}.")
    taken, photos = set(done.values()), []
    for number, path in enumerate(dict.fromkeys(paths), start=1):
        tries = chain([path.stem], (f"{path.stem}~{i}" for i in count(2)))
        name = done.get(str(path)) or next(one for one in tries if one not in taken)
        taken.add(name)
        photos.append(Photo(number, path, name))
    return photos


@dataclass(frozen=True)
class Options:
    """The command line's choices of how photos are segmented.

    Attributes:
        archive: path of the archive.
        out: folder to write.
        overlay: whether pictures are drawn too.
        batch: most photos in one call of the network; they share a padded size.
        threads: number of threads that decode.
        max_pixels: largest photo that is decoded.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or float16.
    """

    archive: Path
    out: Path
    overlay: bool
    batch: int
    threads: int
    max_pixels: int
    device: str
    precision: str


class Journal:
    """A line for each finished photo, which the next run reads, and panoptic.json at the end.

    Args:
        folder: where answers are written.
        model: name of the model that gives them.

    Raises:
        CommandError: the folder holds the answers of another model.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        folder.mkdir(parents=True, exist_ok=True)
        self.done = self._read()

    def _read(self) -> dict[str, Entry]:
        path = self.folder / JOURNAL
        done = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the run was stopped
            if entry["model"] != self.model:
                raise CommandError(
                    f"{self.folder} holds answers of {entry['model']}, this archive is {self.model}. "
                    "Name another folder."
                )
            done[entry["photo"]] = entry
        return done

    def add(self, entry: Entry) -> None:
        """Note a photo whose files are written."""
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.done[entry["photo"]] = entry

    def finish(self, photos: Sequence[Photo], categories: Labels) -> None:
        """Write panoptic.json, which lists all finished photos, in one step."""
        entries = [(photo, self.done[str(photo.path)]) for photo in photos if str(photo.path) in self.done]
        content = {
            "images": [
                {"id": photo.number, "file_name": photo.path.name, "height": e["height"], "width": e["width"]}
                for photo, e in entries
            ],
            "annotations": [
                {"image_id": photo.number, "file_name": f"{e['name']}.png", "segments_info": e["segments_info"]}
                for photo, e in entries
            ],
            "categories": categories.to_json(),
        }
        part = self.folder / "panoptic.json.part"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self.folder / "panoptic.json")


class PhotoSegmenter:
    """An archive, loaded, that segments photos and writes their files.

    Args:
        options: the command line's choices.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._predictor = Predictor(options.archive, options.device, options.precision)
        self._colors = self._predictor.categories.colors
        for name in ["panoptic"] + ["overlay"] * options.overlay:
            (options.out / name).mkdir(parents=True, exist_ok=True)

    def segment(self, photos: Iterable[Photo]) -> Iterator[Entry]:
        """Write each photo's files and yield its entry, or one with `photo` and `error` where it cannot be decoded."""
        waiting: defaultdict[tuple[int, int], list[tuple[Photo, Pixels]]] = defaultdict(list)

        def flush(size: tuple[int, int]) -> Iterator[Entry]:
            ready = waiting.pop(size)
            answers = self._predictor.predict([pixels for _, pixels in ready])
            return (self._write(photo, pixels, found) for (photo, pixels), found in zip(ready, answers, strict=True))

        def read(photo: Photo) -> Pixels:
            return codec.decode(photo.path.read_bytes(), self._options.max_pixels)

        for photo, decoding in read_ahead(photos, read, AHEAD, self._options.threads):
            try:
                pixels = decoding.result()
            except (codec.ImageError, OSError) as error:
                yield {"photo": str(photo.path), "error": str(error)}
                continue
            size = self._predictor.padded_size(*pixels.shape[:2])
            waiting[size].append((photo, pixels))
            if len(waiting[size]) >= self._options.batch:
                yield from flush(size)
            elif sum(map(len, waiting.values())) >= AHEAD:  # bounded memory
                yield from flush(max(waiting, key=lambda size: len(waiting[size])))
        for size in list(waiting):
            yield from flush(size)

    def _write(self, photo: Photo, pixels: Pixels, found: Panoptic) -> Entry:
        """Write one photo's files; the journal's entry for it."""
        out = self._options.out
        (out / "panoptic" / f"{photo.name}.png").write_bytes(codec.encode_png(found.segment_ids))
        if self._options.overlay:
            picture = Image.fromarray(draw_overlay(pixels, found, self._colors))
            picture.save(out / "overlay" / f"{photo.name}.jpg", quality=90)
        return {
            "photo": str(photo.path),
            "model": self._predictor.served.name,
            "name": photo.name,
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "segments_info": [{**asdict(segment), "iscrowd": 0} for segment in found.segments],
        }

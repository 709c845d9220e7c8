"""Photos found, answered and written, with a journal by which a stopped run goes on."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from model.command import CommandError
from model.interface import codec
from model.interface.categories import Category
from model.interface.overlay import draw_overlay
from model.interface.panoptic import Panoptic
from model.predictor import Predictor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".mpo", ".gif"}
JOURNAL = "progress.jsonl"
AHEAD = 16
Entry = dict[str, Any]
"""What the journal says of one photo."""


class Job(NamedTuple):
    """One photo to do.

    Attributes:
        number: image id in the JSON.
        photo: its path.
        name: stem of the files written for it; no two photos share one, and a photo that is done keeps its own.
    """

    number: int
    photo: Path
    name: str


def find_jobs(inputs: Sequence[Path], done: Mapping[str, str]) -> list[Job]:
    """Photos among files and folders, in a fixed order.

    Args:
        inputs: files and folders.
        done: names of photos that an earlier run did, by path.

    Raises:
        CommandError: an input does not exist, or there are no photos.
    """
    photos: list[Path] = []
    for path in inputs:
        if path.is_dir():
            photos += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        elif path.is_file():
            photos.append(path)
        else:
            raise CommandError(f"{path} does not exist. Name photos or folders of photos.")
    if not photos:
        raise CommandError(f"No photos in {', '.join(map(str, inputs))}. Known endings: {', '.join(sorted(SUFFIXES))}.")
    taken, jobs = set(done.values()), []
    for number, photo in enumerate(dict.fromkeys(photos), start=1):
        tries = chain([photo.stem], (f"{photo.stem}~{i}" for i in count(2)))
        name = done.get(str(photo)) or next(one for one in tries if one not in taken)
        taken.add(name)
        jobs.append(Job(number, photo, name))
    return jobs


@dataclass(frozen=True)
class Work:
    """What is done to photos, as the command line says.

    Attributes:
        archive: of the network.
        out: folder to write.
        overlay: also draw pictures.
        batch: photos of one padded shape at a time.
        threads: that decode.
        max_pixels: of a photo.
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
    """One line a finished photo, so that the next run knows, and panoptic.json in the end.

    Args:
        folder: OUT.
        model: name of the archive that answers.

    Raises:
        CommandError: another archive's answers are there.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        folder.mkdir(parents=True, exist_ok=True)
        self.done = self._read()
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")

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
        """A photo is finished: its files are written."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self.done[entry["photo"]] = entry

    def finish(self, jobs: Sequence[Job], categories: Sequence[Category]) -> None:
        """Write panoptic.json over all photos done, in one step."""
        self._file.close()
        entries = [(job, self.done[str(job.photo)]) for job in jobs if str(job.photo) in self.done]
        content = {
            "images": [
                {"id": job.number, "file_name": job.photo.name, "height": e["height"], "width": e["width"]}
                for job, e in entries
            ],
            "annotations": [
                {"image_id": job.number, "file_name": f"{e['name']}.png", "segments_info": e["segments_info"]}
                for job, e in entries
            ],
            "categories": [label.to_json() for label in categories],
        }
        part = self.folder / "panoptic.json.part"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self.folder / "panoptic.json")


class Worker:
    """Loads the archive, answers photos and writes their files.

    Args:
        work: to do.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._predictor = Predictor(work.archive, work.device, work.precision)
        self._colors = {label.id: label.color for label in self._predictor.served.metadata.categories}
        for name in ["panoptic"] + ["overlay"] * work.overlay:
            (work.out / name).mkdir(parents=True, exist_ok=True)

    def do(self, jobs: Iterable[Job]) -> Iterator[Entry]:
        """An entry for each photo, its files being written; `photo` and `error` where there is no answer."""
        waiting: defaultdict[tuple[int, int], list[tuple[Job, codec.Pixels]]] = defaultdict(list)

        def flush(key: tuple[int, int]) -> Iterator[Entry]:
            ready = waiting.pop(key)
            answers = self._predictor.predict([photo for _, photo in ready])
            return (self._write(job, photo, found) for (job, photo), found in zip(ready, answers, strict=True))

        for job, decoding in self._decode_ahead(jobs):
            try:
                photo = decoding.result()
            except (codec.ImageError, OSError) as error:
                yield {"photo": str(job.photo), "error": str(error)}
                continue
            key = self._predictor.padded_size(*photo.shape[:2])
            waiting[key].append((job, photo))
            if len(waiting[key]) >= self._work.batch:
                yield from flush(key)
            elif sum(map(len, waiting.values())) >= AHEAD:  # bounded memory
                yield from flush(max(waiting, key=lambda size: len(waiting[size])))
        for key in list(waiting):
            yield from flush(key)

    def _decode_ahead(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Future[codec.Pixels]]]:
        """Photos in order, a few of them being decoded while others are computed."""
        with ThreadPoolExecutor(self._work.threads) as pool:
            rest = iter(jobs)

            def start(job: Job) -> tuple[Job, Future[codec.Pixels]]:
                return job, pool.submit(lambda: codec.decode(job.photo.read_bytes(), self._work.max_pixels))

            waiting = [start(job) for job in islice(rest, AHEAD)]
            while waiting:
                yield waiting.pop(0)
                waiting += [start(job) for job in islice(rest, 1)]

    def _write(self, job: Job, photo: codec.Pixels, found: Panoptic) -> Entry:
        """The files of one photo; what the journal says of it."""
        out = self._work.out
        (out / "panoptic" / f"{job.name}.png").write_bytes(codec.encode_png(found.segment_ids))
        if self._work.overlay:
            picture = Image.fromarray(draw_overlay(photo, found, self._colors))
            picture.save(out / "overlay" / f"{job.name}.jpg", quality=90)
        return {
            "photo": str(job.photo),
            "model": self._predictor.served.name,
            "name": job.name,
            "height": photo.shape[0],
            "width": photo.shape[1],
            "segments_info": [{**asdict(segment), "iscrowd": 0} for segment in found.segments],
        }

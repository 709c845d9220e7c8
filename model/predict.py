"""`python -m model.predict`: photos to a COCO-panoptic folder.

    python -m model.predict weights/camvid_demo.pt photos/ --out answers --overlay

Writes OUT/panoptic/NAME.png (id = R + 256 G + 65536 B), OUT/panoptic.json and, with --overlay, OUT/overlay/NAME.jpg. A
run that was stopped goes on where it was. A photo that cannot be decoded is reported and skipped.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from model import codec
from model.command import CommandError, run
from model.overlay import draw_overlay
from model.panoptic import Panoptic
from model.predictor import Predictor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".mpo", ".gif"}
JOURNAL = "progress.jsonl"
AHEAD = 16


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


class Output:
    """The folder that is written; its journal has one line a finished photo.

    Args:
        folder: OUT.
        predictor: whose categories and colours are used.
        overlay: also draw pictures.
    """

    def __init__(self, folder: Path, predictor: Predictor, overlay: bool) -> None:
        self.folder, self.predictor, self.overlay = folder, predictor, overlay
        for name in ["panoptic"] + ["overlay"] * overlay:
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.done = self._read_journal()
        self._journal = (folder / JOURNAL).open("a", encoding="utf-8")

    def _read_journal(self) -> dict[str, dict[str, Any]]:
        path = self.folder / JOURNAL
        done = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the run was stopped
            if entry["model"] != self.predictor.model_name:
                raise CommandError(
                    f"{self.folder} holds answers of {entry['model']}, this archive is {self.predictor.model_name}. "
                    "Name another folder."
                )
            done[entry["photo"]] = entry
        return done

    def write(self, job: Job, photo: codec.Pixels, found: Panoptic) -> None:
        """The files of one photo, and then its line in the journal."""
        (self.folder / "panoptic" / f"{job.name}.png").write_bytes(codec.encode_png(found.segment_ids))
        if self.overlay:
            colors = {label.id: label.color for label in self.predictor.metadata.categories}
            picture = Image.fromarray(draw_overlay(photo, found, colors))
            picture.save(self.folder / "overlay" / f"{job.name}.jpg", quality=90)
        entry = {
            "photo": str(job.photo),
            "model": self.predictor.model_name,
            "name": job.name,
            "height": photo.shape[0],
            "width": photo.shape[1],
            "segments_info": [{**asdict(segment), "iscrowd": 0} for segment in found.segments],
        }
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()
        self.done[str(job.photo)] = entry

    def finish(self, jobs: Sequence[Job]) -> None:
        """Write panoptic.json over all photos done, in one step."""
        self._journal.close()
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
            "categories": [label.to_json() for label in self.predictor.metadata.categories],
        }
        part = self.folder / "panoptic.json.part"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self.folder / "panoptic.json")


def decode_ahead(jobs: Sequence[Job], threads: int, max_pixels: int) -> Iterator[tuple[Job, Future[codec.Pixels]]]:
    """Photos in order, a few of them being decoded while others are computed."""
    with ThreadPoolExecutor(threads) as pool:
        rest = iter(jobs)

        def start(job: Job) -> tuple[Job, Future[codec.Pixels]]:
            return job, pool.submit(lambda: codec.decode(job.photo.read_bytes(), max_pixels))

        waiting = [start(job) for job in islice(rest, AHEAD)]
        while waiting:
            yield waiting.pop(0)
            waiting += [start(job) for job in islice(rest, 1)]


def predict(jobs: Sequence[Job], output: Output, batch: int, threads: int, max_pixels: int) -> list[str]:
    """Do the photos; what went wrong, one line a photo."""
    failures: list[str] = []
    waiting: defaultdict[tuple[int, int], list[tuple[Job, codec.Pixels]]] = defaultdict(list)
    progress = tqdm(total=len(jobs), unit="photo")

    def flush(key: tuple[int, int]) -> None:
        ready = waiting.pop(key)
        answers = output.predictor.predict([photo for _, photo in ready])
        for (job, photo), found in zip(ready, answers, strict=True):
            output.write(job, photo, found)
        progress.update(len(ready))

    for job, decoding in decode_ahead(jobs, threads, max_pixels):
        try:
            photo = decoding.result()
        except (codec.ImageError, OSError) as error:
            failures.append(f"{job.photo}: {error}")
            progress.update()
            continue
        key = output.predictor.padded_size(*photo.shape[:2])
        waiting[key].append((job, photo))
        if len(waiting[key]) >= batch:
            flush(key)
        elif sum(map(len, waiting.values())) >= AHEAD:  # bounded memory
            flush(max(waiting, key=lambda size: len(waiting[size])))
    for key in list(waiting):
        flush(key)
    progress.close()
    return failures


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m model.predict", description=__doc__.split("\n")[0])
    parser.epilog = "Example: python -m model.predict weights/camvid_demo.pt photos/ --out answers --overlay"
    parser.add_argument("archive", type=Path)
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IMAGE_OR_DIR")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--overlay", action="store_true", help="also draw pictures")
    parser.add_argument("--batch", type=int, default=1, help="photos of one padded shape at a time (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="that decode (default 2)")
    parser.add_argument("--max-pixels", type=int, default=40_000_000, help="of a photo (default 40 million)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "float16"))
    args = parser.parse_args(argv)
    predictor = Predictor(args.archive, args.device, args.precision)
    output = Output(args.out, predictor, args.overlay)
    jobs = find_jobs(args.inputs, {photo: entry["name"] for photo, entry in output.done.items()})
    left = [job for job in jobs if str(job.photo) not in output.done]
    if len(left) < len(jobs):
        print(f"{args.out}: {len(jobs) - len(left)} of {len(jobs)} photos are done already")  # noqa: T201
    failures = predict(left, output, max(args.batch, 1), args.threads, args.max_pixels)
    output.finish(jobs)
    for line in failures:
        print(f"skipped {line}", file=sys.stderr)  # noqa: T201
    print(f"{args.out}: {len(jobs) - len(failures)} photos, {len(failures)} skipped")  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)

"""`python -m model.predict`: photos to a COCO-panoptic folder.

    python -m model.predict weights/camvid_demo.pt photos/ --out answers --overlay

Writes OUT/panoptic/NAME.png (id = R + 256 G + 65536 B), OUT/panoptic.json and, with --overlay, OUT/overlay/NAME.jpg. A
run that was stopped goes on where it was. A photo that cannot be decoded is reported and skipped. --ray does this on
the hosts of a Ray cluster: see model/predict_ray.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from tqdm import tqdm

from model import archive
from model.command import CommandError, run
from model.predict.photos import Entry, Job, Journal, Work, Worker, find_jobs


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
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
    parser.add_argument(
        "--ray", action="store_true", help="on all of a Ray cluster, else on all cores or GPUs of this host"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    args = parse(argv)
    options = {field.name: getattr(args, field.name) for field in fields(Work)}
    work = Work(**{**options, "batch": max(args.batch, 1)})
    do = on_ray(work) if args.ray else Worker(work).do
    metadata = archive.read_metadata(args.archive)
    journal = Journal(args.out, archive.full_name(args.archive, metadata))
    jobs = find_jobs(args.inputs, {photo: entry["name"] for photo, entry in journal.done.items()})
    left = [job for job in jobs if str(job.photo) not in journal.done]
    if len(left) < len(jobs):
        print(f"{args.out}: {len(jobs) - len(left)} of {len(jobs)} photos are done already")  # noqa: T201
    failures = []
    for entry in tqdm(do(left), total=len(left), unit="photo"):
        if "error" in entry:
            failures.append(f"{entry['photo']}: {entry['error']}")
        else:
            journal.add(entry)
    journal.finish(jobs, metadata.categories)
    for line in failures:
        print(f"skipped {line}", file=sys.stderr)  # noqa: T201
    print(f"{args.out}: {len(jobs) - len(failures)} photos, {len(failures)} skipped")  # noqa: T201
    return 1 if failures else 0


def on_ray(work: Work) -> Callable[[Sequence[Job]], Iterator[Entry]]:
    """What `Worker.do` does, in the order in which Ray's workers finish.

    Raises:
        CommandError: Ray is not installed.
    """
    try:
        from model.predict import on_ray as ray_cluster
    except ModuleNotFoundError as error:
        raise CommandError(f"--ray needs the extra `ray` ({error}). Install it with `uv sync --extra ray`.") from error
    return partial(ray_cluster.do, work=work)


if __name__ == "__main__":
    run(main)

"""`python -m model.predict`: photos to a COCO-panoptic folder.

    uv run python -m model.predict weights/camvid_demo.pt photos/ --out answers --overlay

Writes OUT/panoptic/NAME.png (id = R + 256 G + 65536 B), OUT/panoptic.json and, with --overlay, OUT/overlay/NAME.jpg.
NAME is the photo's, with `~2` and so on where two photos have one. In panoptic.json, `images[].file_name` is the path
below the folder that was given, and it lists the photos that this run was given.

A stopped run goes on where it stopped, from any folder: a photo is known by where it is, however it is named. It keeps
its id and NAME when others are added. One whose PNG was deleted is done again, and a second run with --overlay draws
the pictures that are missing. Hidden files, and pictures that this command wrote, are not taken for photos.

A photo that cannot be decoded is reported and skipped, and the exit status is 1. --ray spreads the photos over the
hosts of a Ray cluster: see model/predict/on_ray.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial

from model.begin import begin

if __name__ == "__main__":
    begin()

from tqdm import tqdm

from model import archive
from model.command import (
    CommandError,
    add_archive,
    add_device,
    check_output_folder,
    new_parser,
    path_name,
    positive,
    printable,
    run,
    threads,
)
from model.interface.categories import Labels
from model.predict.journal import Entry, Journal
from model.predict.photos import Photo, find_photos
from model.predict.segmenter import Options, PhotoSegmenter, draw


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = new_parser(__doc__)
    add_archive(parser)
    parser.add_argument(
        "inputs", type=path_name, nargs="+", metavar="IMAGE_OR_DIR", help="photos, or folders of photos"
    )
    parser.add_argument("--out", required=True, type=path_name, help="folder to write")
    parser.add_argument("--overlay", action="store_true", help="also draw pictures of the segments over the photos")
    parser.add_argument("--batch", type=positive, default=1, help="photos of one padded size at a time (default: 1)")
    parser.add_argument("--threads", type=threads, default=2, help="threads that decode photos (default: 2)")
    parser.add_argument(
        "--max-pixels",
        type=positive,
        default=40_000_000,
        help="largest photo that is decoded (default: 40 million pixels)",
    )
    add_device(parser)
    parser.add_argument(
        "--ray", action="store_true", help="use all of a Ray cluster, or all cores or GPUs of this host without one"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    args = parse(argv)
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    check_output_folder(args.out)
    segment = on_ray(options) if args.ray else partial(on_this_host, options=options)
    metadata = archive.read_metadata(args.archive)
    with Journal(args.out, archive.full_name(args.archive, metadata)) as journal:
        if args.overlay:
            check_output_folder(args.out / "overlay")
        photos, faults = find_photos(args.inputs, args.out, journal.done)
        left = [photo for photo in photos if not journal.is_answered(photo.path)]
        if len(left) < len(photos):
            say(f"{args.out}: {len(photos) - len(left)} of {len(photos)} photos are done already")
        kept = set(photos) - set(left)
        for entry in tqdm(segment(left), total=len(left), unit="photo", disable=not left):
            if "error" in entry:
                faults.append(f"{entry['photo']}: {entry['error']}")
            else:
                journal.add(entry)
        if args.overlay:
            faults += draw_missing([photo for photo in photos if photo in kept], journal, options, metadata.categories)
        journal.finish(photos, metadata.categories)
        done = sum(journal.is_answered(photo.path) for photo in photos)
    for line in faults:
        print(f"skipped {printable(line)}", file=sys.stderr)  # noqa: T201
    say(f"{args.out}: {done} photos, {len(faults)} skipped")
    return 1 if faults else 0


def say(line: str) -> None:
    """Print a line."""
    print(printable(line))  # noqa: T201


def on_this_host(photos: Sequence[Photo], options: Options) -> Iterator[Entry]:
    """`PhotoSegmenter.segment`; the archive is loaded if there is anything to do."""
    return PhotoSegmenter(options).segment(photos) if photos else iter(())


def draw_missing(photos: Iterable[Photo], journal: Journal, options: Options, categories: Labels) -> list[str]:
    """Draw the overlays that photos lack which were done before: a line for each that could not be drawn."""
    missing = [(photo, journal.done[str(photo.path)]) for photo in photos if not journal.is_drawn(photo.path)]
    drawn = draw(missing, options, categories.colors)
    bar = tqdm(drawn, total=len(missing), desc="overlays", unit="photo", disable=not missing)
    return [f"{entry['photo']}: {entry['error']}" for entry in bar if "error" in entry]


def on_ray(options: Options) -> Callable[[Sequence[Photo]], Iterator[Entry]]:
    """`PhotoSegmenter.segment` on a Ray cluster; entries come in the order in which its workers finish.

    Raises:
        CommandError: Ray is not installed.
    """
    try:
        from model.predict import on_ray as ray_cluster
    except ModuleNotFoundError as error:
        raise CommandError(f"--ray needs the extra `ray` ({error}). Install it with `uv sync --extra ray`.") from error
    return partial(ray_cluster.segment, options=options)


if __name__ == "__main__":
    run(main)

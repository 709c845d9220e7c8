"""`python -m model.predict`: photos to a COCO-panoptic folder.

    uv run python -m model.predict weights/camvid_demo.pt photos/ --out answers --overlay

Writes OUT/panoptic/NAME.png (id = R + 256 G + 65536 B), OUT/panoptic.json and, with --overlay, OUT/overlay/NAME.jpg.
A stopped run goes on where it stopped. A photo that cannot be decoded is reported and skipped. --ray spreads the photos
over the hosts of a Ray cluster: see model/predict/on_ray.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from tqdm import tqdm

from model import archive
from model.command import CommandError, add_archive, add_device, new_parser, positive, run
from model.predict.photos import Entry, Journal, Options, Photo, PhotoSegmenter, find_photos


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = new_parser(__doc__)
    add_archive(parser)
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IMAGE_OR_DIR", help="photos, or folders of photos")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--overlay", action="store_true", help="also draw pictures of the segments over the photos")
    parser.add_argument("--batch", type=positive, default=1, help="photos of one padded size at a time (default: 1)")
    parser.add_argument("--threads", type=positive, default=2, help="threads that decode photos (default: 2)")
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
    if args.out.exists() and not args.out.is_dir():
        raise CommandError(f"{args.out} is a file. Name a folder to write with --out.")
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    segment = on_ray(options) if args.ray else PhotoSegmenter(options).segment
    metadata = archive.read_metadata(args.archive)
    journal = Journal(args.out, archive.full_name(args.archive, metadata))
    photos = find_photos(args.inputs, {path: entry["name"] for path, entry in journal.done.items()})
    left = [photo for photo in photos if str(photo.path) not in journal.done]
    if len(left) < len(photos):
        print(f"{args.out}: {len(photos) - len(left)} of {len(photos)} photos are done already")  # noqa: T201
    failures = []
    for entry in tqdm(segment(left), total=len(left), unit="photo"):
        if "error" in entry:
            failures.append(f"{entry['photo']}: {entry['error']}")
        else:
            journal.add(entry)
    journal.finish(photos, metadata.categories)
    for line in failures:
        print(f"skipped {line}", file=sys.stderr)  # noqa: T201
    print(f"{args.out}: {len(photos) - len(failures)} photos, {len(failures)} skipped")  # noqa: T201
    return 1 if failures else 0


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

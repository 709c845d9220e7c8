"""Our PNG writer against Pillow's default on real maps: `python -m tests.comparison.png FOLDER`.

FOLDER holds panoptic PNGs, such as the annotations of COCO; each is relabelled 1, 2, 3 ... as our answers are.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.interface.codec import encode_png
from tests.ids import ids_to_rgb


def read_map(path: Path) -> Any:
    """(H, W) uint8: 0 for void, 1.. for the segments."""
    rgb = np.asarray(Image.open(path).convert("RGB")).astype(np.uint32)
    wide = rgb @ np.array([1, 256, 65536], np.uint32)
    names, ids = np.unique(wide, return_inverse=True)
    assert len(names) < 256
    return (ids.reshape(wide.shape) + (names[0] != 0)).astype(np.uint8)


def by_pillow(ids: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(ids_to_rgb(ids)).save(file, "PNG")
    return file.getvalue()


def seconds(write: Callable[[Any], bytes], ids: Any) -> float:
    began = time.thread_time()
    write(ids)
    return time.thread_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=30, help="maps, spread over the folder")
    parser.add_argument("--rounds", type=int, default=7, help="of each, alternated")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.rglob("*.png"))
    if not paths:
        parser.error(f"{arguments.folder} holds no PNG.")
    times, sizes = [], []
    for path in paths[:: -(-len(paths) // arguments.count)]:
        ids = read_map(path)
        ours, theirs = encode_png(ids), by_pillow(ids)
        decoded = [np.asarray(Image.open(io.BytesIO(png))) for png in (ours, theirs)]
        assert np.array_equal(*decoded), path.name
        assert np.array_equal(decoded[0], ids_to_rgb(ids)), path.name
        rounds = [(seconds(encode_png, ids), seconds(by_pillow, ids)) for _ in range(arguments.rounds)]
        ours_ms, theirs_ms = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
        times.append((ours_ms, theirs_ms))
        sizes.append((len(ours), len(theirs)))
    ratios = sorted(theirs / ours for ours, theirs in times)
    bytes_ratio = sum(ours for ours, _ in sizes) / sum(theirs for _, theirs in sizes)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    print(
        f"{len(times)} maps, pixels identical: {medians[0]:.2f} ms against Pillow's {medians[1]:.2f} ms (CPU), "
        f"{statistics.median(ratios):.1f}x as fast ({ratios[0]:.1f}-{ratios[-1]:.1f}x), {bytes_ratio:.2f}x the bytes"
    )


if __name__ == "__main__":
    main()

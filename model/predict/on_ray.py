"""`python -m model.predict --ray`: the photos in shards, over the workers of a Ray cluster.

    uv run --extra ray ray start --head                  # on the first host; what to set before: docs/operations.md
    uv run --extra ray ray start --address FIRST:6379    # on each other
    uv run --extra ray python -m model.predict weights/camvid_demo.pt photos/ --out answers --ray

Every host has this checkout with the extra `ray`, under the same path. The archive, the photos and OUT are in shared
folders, also under the same paths. One worker runs on each GPU, or on each core where there are no GPUs. Without a
cluster, Ray starts one on this host for this run. When a worker or host is lost, another worker does its shard again. A
stopped run goes on after the shards that were finished.

A worker computes with one thread. On CPUs the files are those of `OMP_NUM_THREADS=1 python -m model.predict` without
--ray: more threads add numbers in another order, which moves a pixel now and then.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports nothing

import ray
import ray.data
import torch

from model.command import CommandError
from model.predict.journal import Entry
from model.predict.photos import Photo
from model.predict.segmenter import Options, PhotoSegmenter
from model.predictor import choose_precision

SHARD = 32
"""Photos in a shard: what each worker loses when a run is stopped."""
THREADS = 1
"""Threads of a worker, and the cores that it asks for."""


class ShardSegmenter:
    """A segmenter in a process of Ray's.

    Args:
        folder: the working folder, in which relative paths are found.
        options: the command line's choices.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        os.chdir(folder)
        torch.set_num_threads(THREADS)  # Ray does so too, unless OMP_NUM_THREADS is set
        self._segmenter = PhotoSegmenter(options)

    def __call__(self, shard: dict[str, str]) -> list[dict[str, str]]:
        """A row with its entry for each photo of a shard."""
        photos = [Photo(number, Path(path), *names) for number, path, *names in json.loads(shard["photos"])]
        return [{"entry": json.dumps(entry)} for entry in self._segmenter.segment(photos)]


def segment(photos: Sequence[Photo], options: Options) -> Iterator[Entry]:
    """Entries as `PhotoSegmenter.segment` gives them, shard by shard as they are finished.

    Raises:
        CommandError: there is no cluster to reach, or its workers fail.
    """
    if not photos:
        return
    try:
        connect()
        for row in dataset(photos, options).iter_rows():
            yield json.loads(row["entry"])
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise CommandError(f"Ray: {str(error).strip().splitlines()[-1]}") from error
    finally:
        ray.shutdown()


def connect() -> None:
    """Reach the cluster, or start one on this host, and keep Ray quiet.

    Raises:
        CommandError: `RAY_ADDRESS` is no address, or that of a cluster of other versions.
        ConnectionError: nothing answers there.
    """
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except (ValueError, RuntimeError) as error:
        raise CommandError(f"Ray: {str(error).strip().splitlines()[-1]}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # the command has its own
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def dataset(photos: Sequence[Photo], options: Options) -> Any:
    """The entries as a Ray data set that computes them when it is read, a block for each shard."""
    rows = [[photo.number, str(photo.path), photo.name, photo.file] for photo in photos]
    parts = [{"photos": json.dumps(rows[start : start + SHARD])} for start in range(0, len(rows), SHARD)]
    resources = ray.cluster_resources()
    gpus = 0 if options.device == "cpu" else int(resources.get("GPU", 0))
    if not gpus:  # not every host of a cluster may choose the same
        options = replace(options, precision=choose_precision(options.precision, "cpu"))
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=min(gpus or int(resources["CPU"]), len(parts)))
    return ray.data.from_items(parts, override_num_blocks=len(parts)).flat_map(
        ShardSegmenter,
        fn_constructor_args=(Path.cwd(), options),
        compute=workers,
        num_cpus=THREADS,
        num_gpus=1 if gpus else 0,
    )

"""`python -m model.predict --ray`: the photos in shards, over the workers of a Ray cluster.

    ray start --head                  # on the first host; what to set before: docs/operations.md
    ray start --address FIRST:6379    # on each other
    python -m model.predict weights/camvid_demo.pt photos/ --out answers --ray    # on any of them

Every host has this checkout with the extra `ray`, and the archive, the photos and OUT in shared folders, all under the
same paths. One worker runs on each GPU, or on each core where there are none. Without a cluster, one is started on this
host for this run. A shard whose worker or host is lost is done again by another; a run that was stopped goes on after
the shards that were finished.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here: no word to anybody outside

import ray
import ray.data

from model.command import CommandError
from model.predict.photos import Entry, Job, Work, Worker

SHARD = 32
"""Photos: what is lost when a run is stopped, for each worker."""


class Shards:
    """A worker in a process of Ray's.

    Args:
        folder: from which paths are named.
        work: to do.
    """

    def __init__(self, folder: Path, work: Work) -> None:
        os.chdir(folder)
        self._worker = Worker(work)

    def __call__(self, shard: dict[str, str]) -> list[dict[str, str]]:
        """A row for each photo of a shard."""
        jobs = [Job(number, Path(photo), name) for number, photo, name in json.loads(shard["jobs"])]
        return [{"entry": json.dumps(entry)} for entry in self._worker.do(jobs)]


def do(jobs: Sequence[Job], work: Work) -> Iterator[Entry]:
    """Entries as `Worker.do` gives them, shard by shard as they are finished.

    Raises:
        CommandError: there is no cluster to reach, or its workers fail.
    """
    if not jobs:
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False  # the command has its own
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        for row in shards(jobs, work).iter_rows():
            yield json.loads(row["entry"])
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise CommandError(f"Ray: {str(error).strip().splitlines()[-1]}") from error
    finally:
        ray.shutdown()


def shards(jobs: Sequence[Job], work: Work) -> Any:
    """The data set of answers, not begun: a block a shard."""
    rows = [[job.number, str(job.photo), job.name] for job in jobs]
    parts = [{"jobs": json.dumps(rows[start : start + SHARD])} for start in range(0, len(rows), SHARD)]
    resources = ray.cluster_resources()
    gpus = 0 if work.device == "cpu" else int(resources.get("GPU", 0))
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=min(gpus or int(resources["CPU"]), len(parts)))
    return ray.data.from_items(parts, override_num_blocks=len(parts)).flat_map(
        Shards,
        fn_constructor_args=(Path.cwd(), work),
        compute=workers,
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )

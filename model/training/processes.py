"""The processes of a run: one, or those that torchrun started."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from model.command import CommandError
from model.predictor import choose_device

PATIENCE = timedelta(days=365)  # the first process may score a large data set, or write to a slow disk


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: this process's number, from 0; the first one writes files.
        count: number of processes.
        device: device that this process trains on.
        waiting: the group in which the others wait for the first one, however long it takes: a wait among the
            collectives of training would end in their timeout.
    """

    rank: int
    count: int
    device: torch.device
    waiting: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0


def join(device: str) -> Processes:
    """This process among those that torchrun started, or alone.

    Args:
        device: auto, cpu or cuda; each process takes a CUDA device of its own.

    Raises:
        archive.ArchiveError: there is no CUDA device, or none for this process.
    """
    kind = choose_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, torch.device(kind))
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if kind == "cuda":
        kind = choose_device(f"cuda:{local}")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(waiting, dist.ProcessGroup)  # every process is in it
    return Processes(rank, count, torch.device(kind), waiting)


def leave(processes: Processes) -> None:
    """Leave the group of processes, if there is one: those that wait for this process end."""
    if processes.count > 1:
        if processes.waiting is not None:
            dist.destroy_process_group(processes.waiting)
        dist.destroy_process_group()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """`join`, the run itself, and `leave`.

    Raises:
        CommandError: another process has ended, which this one noticed when it shared something with it.
    """
    processes = join(device)
    try:
        yield processes
    except RuntimeError as error:
        if processes.count > 1 and (isinstance(error, dist.DistError) or "/gloo/" in str(error)):
            raise CommandError(f"Process {processes.rank} ends, because another has: see what that says.") from error
        raise
    finally:
        leave(processes)


def agree(value: bool, processes: Processes) -> bool:
    """The first process's value, so that all end at the same step although their clocks differ.

    The others wait for it, also while it writes a checkpoint and scores it.
    """
    if processes.count == 1:
        return value
    flag = torch.tensor([float(value)])
    dist.broadcast(flag, 0, group=processes.waiting)
    return bool(flag.item())

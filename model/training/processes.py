"""The processes of a run: one, or those that torchrun started."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: this process's number, from 0; the first one writes files.
        count: number of processes.
        device: device that this process trains on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0


def join(device: str) -> Processes:
    """This process among those that torchrun started, or alone.

    Args:
        device: auto, cpu or cuda; each process takes a CUDA device of its own.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, torch.device(kind))
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if kind == "cuda":
        torch.cuda.set_device(local)
        kind = f"cuda:{local}"
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    return Processes(rank, count, torch.device(kind))


def leave(processes: Processes) -> None:
    """Leave the group of processes, if there is one."""
    if processes.count > 1:
        dist.destroy_process_group()


def agree(value: bool, processes: Processes) -> bool:
    """The first process's value, so that all end at the same step although their clocks differ."""
    if processes.count == 1:
        return value
    flag = torch.tensor([float(value)], device=processes.device)
    dist.broadcast(flag, 0)
    return bool(flag.item())

"""The processes of a run share its work and end together."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from model.command import CommandError
from model.training.processes import agree, join, joined, leave
from model.training.step import TrainingStep
from tests.model.training.street import ALONE, trainer


def test_a_process_is_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    found = join("cpu")
    assert found == ALONE
    assert found.is_first
    assert [agree(value, found) for value in (True, False)] == [True, False]
    leave(found)


SHORT = timedelta(seconds=2)


def wait_for_the_first(rank: int, port: int, out: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    real = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda *words: real(*words, timeout=SHORT)
    told = []
    try:
        with joined("cpu") as processes:
            if rank == 0:
                time.sleep(2 * SHORT.total_seconds())  # it scores a large data set
                agree(True, processes)
                os._exit(0)  # and is killed
            told = [str(agree(False, processes))]
            agree(False, processes)
    except CommandError as error:
        out.write_text("\n".join([*told, str(error)]))


def test_the_others_wait_for_the_first_process_past_their_timeout_and_end_with_it(tmp_path: Path) -> None:
    multiprocessing.spawn(wait_for_the_first, (free_port(), tmp_path / "told.txt"), nprocs=2)
    waited, ended = (tmp_path / "told.txt").read_text().splitlines()
    assert waited == "True"
    assert ended == "Process 1 ends, because another has: see what that says."


def refuse_in_the_second(rank: int, port: int, out: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    try:
        with joined("cpu"):
            if rank == 1:
                raise CommandError("A photo cannot be read.")
            torch.distributed.all_reduce(torch.zeros(1))  # as the gradients
    except CommandError as error:
        (out / f"{rank}.txt").write_text(str(error))


def test_a_process_whose_peer_refuses_something_says_so_in_one_line(tmp_path: Path) -> None:
    multiprocessing.spawn(refuse_in_the_second, (free_port(), tmp_path), nprocs=2)
    assert (tmp_path / "1.txt").read_text() == "A photo cannot be read."
    assert (tmp_path / "0.txt").read_text() == "Process 0 ends, because another has: see what that says."


def test_an_error_of_this_process_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="of its own"), joined("cpu"):
        raise RuntimeError("of its own")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def gradients_of_rank(rank: int, folder: Path, port: int, out: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    run = trainer(folder / str(rank), out)  # which writes the folder
    step = torch.nn.parallel.DistributedDataParallel(run.step)
    sample = run.dataset.sample(rank, 0)
    torch.manual_seed(100 + rank)
    step([sample])["total"].backward()
    if rank == 0:
        torch.save({name: p.grad for name, p in run.network.named_parameters()}, out)
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one_with_both_photos(tmp_path: Path) -> None:
    port = free_port()
    multiprocessing.spawn(gradients_of_rank, (tmp_path / "street", port, tmp_path / "gradients.pt"), nprocs=2)
    shared = torch.load(tmp_path / "gradients.pt")
    run = trainer(tmp_path / "street", tmp_path / "run")
    assert isinstance(run.step, TrainingStep)
    for rank in (0, 1):
        torch.manual_seed(100 + rank)
        (run.step([run.dataset.sample(rank, 0)])["total"] / 2).backward()
    for name, parameter in run.network.named_parameters():
        torch.testing.assert_close(
            shared[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )

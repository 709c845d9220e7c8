"""Whole runs on a tiny street: they learn, they survive being killed, and processes share the work."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from model.checkpoint import Checkpoint, build_network
from model.datasets.load import load_annotations
from model.training import __main__ as command
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise
from model.training.loop import NonFiniteLossError, Trainer
from model.training.processes import Processes
from model.training.recipe import Recipe
from model.training.step import TrainingStep
from tests.model.training.street import write_street

RECIPE = Recipe(
    "camvid_demo",
    6,
    learning_rate=1e-3,
    processes=1,
    batch=2,
    optimizer="adamw",
    warmup_steps=0,
    crop=(64, 96),
    rois=16,
    pre_nms=50,
    post_nms=30,
    average_decay=0.9,
    freeze_stem=False,
    crowd_proposals=False,
)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


ALONE = Processes(0, 1, torch.device("cpu"))


def trainer(folder: Path, out: Path, recipe: Recipe = RECIPE) -> Trainer:
    write_street(folder)
    annotations = load_annotations(folder / "street.json", folder / "photos", folder / "masks")
    torch.manual_seed(0)
    network = build_network("camvid_demo", annotations.categories)
    initialise(network)
    dataset = PanopticDataset(annotations, recipe, network.transform)
    return Trainer(Checkpoint("camvid_demo", annotations.categories, {}), network, dataset, recipe, out, ALONE)


def test_losses_fall_and_the_checkpoint_builds(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    run.run(1e9)
    lines = [json.loads(line) for line in (tmp_path / "run/losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert lines[-1]["total"] < lines[0]["total"]
    network = Checkpoint.load(tmp_path / "run/checkpoint.safetensors").build()
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_gives_the_losses_of_one_never_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "camvid_demo", *write_street(tmp_path / "street"), "--steps", "4", "--device", "cpu"]
    options += ["--checkpoint-seconds", "0", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    call = [sys.executable, "-W", "ignore", "-m", "model.training", *options, str(killed)]
    first = subprocess.Popen(call, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while not (killed / "state.pt").exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    command.main([*options, str(killed)])
    assert f"resuming {killed} at step" in capsys.readouterr().out
    command.main([*options, str(whole)])
    losses = [(folder / "losses.jsonl").read_text() for folder in (whole, killed)]
    assert losses[0] == losses[1]
    weights = [Checkpoint.load(folder / "checkpoint.safetensors").weights for folder in (whole, killed)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_photo(tmp_path: Path) -> None:
    run = trainer(tmp_path / "street", tmp_path / "run")
    with torch.no_grad():
        run.network.semantic_head.logits.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"step 0 on \d\.png, \d\.png"):
        run.run(1e9)


def gradients_of_rank(rank: int, folder: Path, port: int, out: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    run = trainer(folder, out)
    step = torch.nn.parallel.DistributedDataParallel(run.step)
    sample = run.dataset.sample(rank, 0)
    torch.manual_seed(100 + rank)
    step([sample])["total"].backward()
    if rank == 0:
        torch.save({name: p.grad for name, p in run.network.named_parameters()}, out)
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one_with_both_photos(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write_street(tmp_path / "street")
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


def test_a_folder_without_things_is_refused(tmp_path: Path) -> None:
    options = write_street(tmp_path)
    content = json.loads((tmp_path / "street.json").read_text())
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = 1
    (tmp_path / "street.json").write_text(json.dumps(content))
    with pytest.raises(command.CommandError, match="nothing to train on"):
        command.main(["--config", "camvid_demo", *options, "--out", str(tmp_path / "run")])

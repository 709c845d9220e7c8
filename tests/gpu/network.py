"""The whole network with random weights: rate, latency, memory, waits of the host, and other networks."""

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torchvision
from torch import Tensor

from model import archive
from model.benchmark import __main__ as benchmark
from model.benchmark import parts, peers
from model.command import CommandError
from model.graphs import Graphs
from model.network.backbone import fold_norms
from model.network.upsnet import UPSNet
from model.predictor import Predictor
from tests.gpu.measure import Bench
from tests.gpu.rows import Row
from tests.paths import DEMO

THINGS = 20


@cache
def opened(bench: Bench) -> tuple[UPSNet, list[Tensor], Any]:
    """A network with stand-ins for things; its images, on the device; and what the predictor calls to answer them."""
    network = benchmark.open_network(bench.configuration, bench.size, THINGS, bench.device)
    fold_norms(network)
    archive.cast_weights(network, bench.dtype)
    images = benchmark.sample_images(*bench.size, bench.batch, bench.device)
    served = archive.script(network)
    if bench.dry:
        return network, images, served
    return network, images, Graphs(served, torch.cuda.get_device_properties(bench.device).total_memory)


@torch.inference_mode()
def throughput(bench: Bench) -> Iterator[Row]:
    """Images a second at each batch size: with answers waited for, and in a row."""
    _, images, served = opened(bench)
    for count in (1, 2) if bench.dry else (1, 2, 4, 8):
        some = images[:count]
        name = f"images/s at batch {count}"
        yield Row(name, count / bench.wall(lambda: served(some)), "images/s")  # noqa: B023
        yield Row(f"{name}, in a row", count / bench.queued(lambda: served(some), 10), "images/s")  # noqa: B023


@torch.inference_mode()
def latency(bench: Bench) -> Iterator[Row]:
    """Of one image on the device, until its answer is on the host."""
    _, images, served = opened(bench)
    laps = bench.laps(lambda: served(images[:1]), 100)
    for share in (50, 90, 99):
        yield Row(f"latency at batch 1, p{share}", 1e3 * laps[max(0, -(-len(laps) * share // 100) - 1)], "ms")


@torch.inference_mode()
def memory(bench: Bench) -> Iterator[Row]:
    """Bytes that a batch takes, and what batches of many sizes leave behind."""
    if bench.dry:
        return
    _, images, served = opened(bench)
    for count in bench.batches():
        yield Row(f"memory of a batch of {count}", bench.peak(lambda: served(images[:count])) / 1e6, "MB")  # noqa: B023
    before = torch.cuda.memory_allocated()
    for count in (1, 3, 5, 8, 8, 7, 2):
        served(images[:count])
    yield Row("memory left behind by 7 mixed batches", (torch.cuda.memory_allocated() - before) / 1e6, "MB")
    yield Row("memory reserved", torch.cuda.memory_reserved() / 1e6, "MB")


@torch.inference_mode()
def waits(bench: Bench) -> Iterator[Row]:
    """How often the host waits for the device in a batch: the network, and the predictor with photos on the host."""
    network, images, _ = opened(bench)
    predictor = Predictor(DEMO, bench.device)
    photos = [image.permute(1, 2, 0).cpu().numpy() for image in images]
    for name, run in (("network", lambda: network(images)), ("predictor", lambda: predictor.predict(photos))):
        run()  # compiles, and copies tables of sizes there
        if not bench.dry:
            run()
            yield Row(f"waits of the host in a batch, {name}", count_waits(run))


def count_waits(run: Callable[[], Any]) -> int:
    """How often torch says that the host waits during a call."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(each.message) for each in told)


@torch.inference_mode()
def mask_rcnn(bench: Bench) -> Iterator[Row]:
    """torchvision's Mask R-CNN with random weights, which has no semantic part: its time divided by ours."""
    options = {"min_size": min(bench.size), "max_size": max(bench.size)}
    options |= {"rpn_post_nms_top_n_test": 20} if bench.dry else {}
    network = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **options)
    network = network.eval().to(bench.device)
    pictures = list(torch.rand(bench.batch, 3, *bench.size, device=bench.device))
    run = peers.in_precision(lambda: network(pictures), bench.device, bench.dtype)
    yield compared(bench, "torchvision Mask R-CNN", run)


@torch.inference_mode()
def mask2former(bench: Bench) -> Iterator[Row]:
    """Mask2Former of transformers with random weights, if it is installed: its time divided by ours."""
    try:
        runs = peers.peer_runs(bench.size, bench.batch, bench.device, bench.dtype)
    except CommandError:
        yield Row("transformers Mask2Former / ours", None, note="transformers or scipy is not installed")
        return
    yield compared(bench, "transformers Mask2Former", runs["transformers Mask2Former-R50"])


def compared(bench: Bench, name: str, theirs: parts.Run) -> Row:
    """The time of another network on a batch divided by ours."""
    _, images, served = opened(bench)
    ours = bench.wall(lambda: served(images), 10)
    taken = bench.wall(theirs, 7)
    note = f"{1e3 * taken:.2f} ms / {1e3 * ours:.2f} ms, batch {bench.batch}"
    return Row(f"{name} / ours", taken / ours, "x", note)


PARTS = (throughput, latency, memory, waits, mask_rcnn, mask2former)

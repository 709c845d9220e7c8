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
from model.benchmark import parts
from model.command import CommandError
from model.network.backbone import fold_norms
from model.network.upsnet import UPSNet
from model.predictor import Predictor
from tests.gpu.measure import Bench
from tests.gpu.rows import Row
from tests.paths import DEMO

THINGS = 20


@cache
def opened(bench: Bench) -> tuple[UPSNet, list[Tensor], Any]:
    """A network as it is served, with stand-ins for things; its images, on the device; its scripted form."""
    network = benchmark.open_network(bench.configuration, bench.size, THINGS, bench.device)
    fold_norms(network)
    archive.cast_weights(network, bench.dtype)
    images = benchmark.sample_images(*bench.size, bench.batch, bench.device)
    return network, images, archive.script(network)


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
def peers(bench: Bench) -> Iterator[Row]:
    """Other networks with random weights on batches of the same size: their time divided by ours."""
    _, images, served = opened(bench)
    ours = bench.wall(lambda: served(images), 10)
    for name, run in other_networks(bench, len(images)).items():
        name = f"{name.removesuffix('-R50')} / ours"
        try:
            yield Row(name, bench.wall(run, 5) / ours, "x", f"batch {len(images)}; ours takes {1e3 * ours:.2f} ms")
        except Exception as error:
            yield Row(name, None, note=f"{type(error).__name__}: {error}"[:200], failed=True)


def other_networks(bench: Bench, count: int) -> dict[str, parts.Run]:
    """By name; without transformers, Mask R-CNN alone."""
    try:
        found = parts.peers(bench.size, count, bench.device, bench.dtype)
        return {name.replace("maskrcnn_resnet50_fpn", "Mask R-CNN"): run for name, run in found.items()}
    except CommandError:
        options = {"min_size": min(bench.size), "max_size": max(bench.size)}
        options |= {"rpn_post_nms_top_n_test": 20} if bench.dry else {}
        mask_rcnn = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **options)
        mask_rcnn = mask_rcnn.eval().to(bench.device)
        pictures = list(torch.rand(count, 3, *bench.size, device=bench.device))
        run = parts.in_precision(lambda: mask_rcnn(pictures), bench.device, bench.dtype)
        return {"torchvision Mask R-CNN": run}


PARTS = (throughput, latency, memory, waits, peers)

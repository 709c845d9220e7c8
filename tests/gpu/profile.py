"""Where the time goes: kernels of the served network, and times of each stage."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from model.benchmark import __main__ as benchmark
from tests.gpu.measure import Bench, Run
from tests.gpu.network import opened
from tests.gpu.rows import Row

GROUPS = {
    "deformable convolution": ("_forward", "deform"),
    "panoptic head": ("_decide", "_count_own", "_count_taken"),
    "suppression, RoIAlign": ("_overlaps", "_suppress", "_roi_align"),
    "convolutions": ("conv", "cudnn", "fprop", "implicit", "xmma", "nchwToNhwc", "nhwcToNchw"),
    "products": ("gemm", "cublas", "nvjet", "cutlass", "splitK", "sm90_", "sm80_"),
    "sorting": ("sort", "topk", "radix", "TopK", "can"),
    "copies to and from the host": ("HtoD", "DtoH"),
    "copies on the device, fills": ("Memcpy", "Memset", "FillFunctor", "copy"),
    "indexing": ("index", "scatter", "gather", "CatArray"),
    "resizing, pooling": ("upsample", "pool"),
    "sums, softmax, norms": ("reduce", "softmax", "norm", "Norm"),
    "elementwise": ("elementwise",),
}
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
SHOWN = 25


class Profile(NamedTuple):
    """What a call does, on average over some.

    Attributes:
        seconds: of the device for each kernel, by name.
        launches: of each kernel, by name.
        waits: of the host for the device.
    """

    seconds: dict[str, float]
    launches: dict[str, float]
    waits: float


def profiled(bench: Bench, run: Run, calls: int = 3) -> Profile:
    """The profile of a call. Without a device, operators stand for kernels."""
    calls = 1 if bench.dry else calls
    kinds = [ProfilerActivity.CPU] if bench.dry else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(calls):
            run()
        bench.drain()
    seconds: dict[str, float] = defaultdict(float)
    launches: Counter[str] = Counter()
    waits = 0
    for event in profile.events() or ():
        waits += event.name in WAITS
        if bench.dry or event.device_type == torch.autograd.DeviceType.CUDA:
            seconds[event.name] += event.time_range.elapsed_us() / 1e6 / calls
            launches[event.name] += 1
    return Profile(dict(seconds), {name: count / calls for name, count in launches.items()}, waits / calls)


def group_of(kernel: str) -> str:
    """The group that a kernel belongs to, by its name."""
    return next((group for group, signs in GROUPS.items() if any(sign in kernel for sign in signs)), "others")


@torch.inference_mode()
def kernels(bench: Bench) -> Iterator[Row]:
    """Of the served network at each batch size: busy time of the device, launches, groups, the longest kernels."""
    _, images, served = opened(bench)
    for count in bench.batches():
        some = images[:count]
        wall = bench.wall(lambda: served(some), 10)  # noqa: B023
        found = profiled(bench, lambda: served(some))  # noqa: B023
        busy = sum(found.seconds.values())
        yield Row(f"served, batch {count}", 1e3 * wall, "ms", "by the clock, without the profiler")
        yield Row(f"served, batch {count}, device busy", 1e3 * busy, "ms", f"{100 * busy / wall:.0f} % of the time")
        yield Row(f"served, batch {count}, launches and copies", sum(found.launches.values()))
        yield Row(f"served, batch {count}, waits of the host", found.waits)
        groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for name, taken in found.seconds.items():
            groups[group_of(name)][0] += taken
            groups[group_of(name)][1] += found.launches[name]
        for name, (taken, launched) in sorted(groups.items(), key=lambda item: -item[1][0]):
            yield Row(f"batch {count}, group: {name}", 1e3 * taken, "ms", f"{launched:.0f} launches")
        longest = sorted(found.seconds.items(), key=lambda item: -item[1])[: 3 if bench.dry else SHOWN]
        for name, taken in longest:
            note = f"{found.launches[name]:.0f} launches of {1e6 * taken / found.launches[name]:.1f} us"
            yield Row(f"batch {count}, kernel: {name[:110]}", 1e3 * taken, "ms", note)


@torch.inference_mode()
def stages(bench: Bench) -> Iterator[Row]:
    """Of each stage at each batch size: in a row, by the clock, on the device."""
    network, images, _ = opened(bench)
    for count in bench.batches():
        for name, run in benchmark.stage_runs(network, images[:count]).items():
            row, wall = bench.queued(run, 5), bench.wall(run, 5)
            found = profiled(bench, run, 2)
            busy, launched = sum(found.seconds.values()), sum(found.launches.values())
            note = (
                f"in a row; {1e3 * wall:.3f} ms by the clock, {1e3 * busy:.3f} of the device, {launched:.0f} launches"
            )
            if found.waits < 1 and (alone := bench.replayed(run, 5)) is not None:
                note += f", {1e3 * alone:.3f} as a graph"
            yield Row(f"stage {name}, batch {count}", 1e3 * row, "ms", note)


@torch.inference_mode()
def layouts(bench: Bench) -> Iterator[Row]:
    """Convolutions and norms whose maps are not channels-last: each costs a transposition on a GPU."""
    network, images, _ = opened(bench)
    found: set[str] = set()

    def look(name: str, _: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        for side, maps in (("input", given[0]), ("output", result)):
            if maps.dim() == 4 and min(maps.size(1), maps.size(2) * maps.size(3)) > 1:  # else layouts are the same
                found.update([] if maps.is_contiguous(memory_format=torch.channels_last) else [f"{side} of {name}"])

    hooks = [
        module.register_forward_hook(partial(look, name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.GroupNorm)
    ]
    network(images[:1])
    for hook in hooks:
        hook.remove()
    yield Row("maps that are not channels-last", len(found), "", ", ".join(sorted(found))[:600])


PARTS = (kernels, stages, layouts)

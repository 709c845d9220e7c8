"""The program of a worker: one predictor on one device. Images and maps pass through shared memory.

The front starts it with `spawn`, so it inherits no memory, threads or CUDA state. It ends when the front ends, even if
the front was killed.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection, parent_process, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, assert_never

from model.interface import host
from model.interface.failures import is_shortage, one_line
from model.interface.panoptic import Panoptic, Pixels
from model.interface.scale import padded_size
from model.interface.served import ServedModel
from service import streams
from service.logs import set_up_logging
from service.workers import messages
from service.workers.shared_memory import Block

log = logging.getLogger(__name__)

EXIT_STICKY = 70
_STICKY = (
    "cuda error",
    "cuda driver error",
    "triton error [",  # of the driver; what Triton does not compile, or has no shared memory for, is worded otherwise
    "illegal memory access",
    "unspecified launch failure",
    "device-side assert",
    "cublas",
    "cudnn_status",
    "hip error",
    "nccl",
)
_GONE = ("no cuda", "cuda is not available", "invalid device", "no nvidia", "found no nvidia", "cuda driver", "nvml")
"""What torch says of a device that is not there, or no more."""


class Predictor(Protocol):
    """What a factory makes; `model.predictor.Predictor` is one.

    Attributes:
        served: the model that it has loaded; `check_kernels` may change what it says of kernels.
    """

    served: ServedModel

    def predict(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image, in order."""

    def check_kernels(self) -> None:
        """Replace the GPU's kernels that fail."""

    def warm_up(self, sizes: Sequence[tuple[int, int]], images: int = 1) -> None:
        """Run so many images of each height and width."""


Factory = Callable[[], Predictor]
Report = Callable[[str, float], None]
"""Takes the step that begins and the share of the start before it, as `messages.Step` has them."""
LOADED_CPU, LOADED_GPU, CHECKED = 0.85, 0.3, 0.6
"""Shares of a start: on a CPU most of it is the import of torch, on a GPU the check and warm-up take longer."""


class WarmUp(NamedTuple):
    """What a worker runs before it is ready.

    Attributes:
        sizes: heights and widths of images.
        max_batch_size: images of the largest batch on a GPU. On a CPU images are run one by one.
        max_batch_pixels: pixels of the largest batch, counted after padding.
    """

    sizes: Sequence[tuple[int, int]] = ()
    max_batch_size: int = 1
    max_batch_pixels: int = 0


def load_predictor(path: Path, device: str, precision: str, kernels: str, log_form: str, log_level: str) -> Predictor:
    """The predictor of an archive. torch is imported here, in the worker, and nowhere else in the service."""
    set_up_logging(log_form, log_level)
    from model.predictor import Predictor as ArchivePredictor

    return ArchivePredictor(path, device, precision, kernels)


def import_predictor(workers: int) -> None:
    """Import torch and what stands on it, for one of so many workers that share the host's cores."""
    host.set_threads(workers)
    import model.predictor  # noqa: F401


def main(
    pipe: Connection,
    factory: Factory,
    warm_up: WarmUp,
    ends: streams.Ends | None = None,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Load, warm up, say so, and answer batches until the front closes the pipe.

    Args:
        pipe: the worker's end of the pipe to the front.
        factory: makes the predictor.
        warm_up: what to run before the worker is ready.
        ends: where to log, and to lead what libraries write; None: the streams stay as they are.
        prepare: runs before the factory.
    """
    if ends:
        streams.take_in_worker(ends)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):  # they are meant for the front, which drains first
        signal.signal(signum, signal.SIG_IGN)
    heir = threading.Thread(target=_end_with_parent, args=(ends,), daemon=True)
    heir.start()
    try:
        predictor = get_ready(factory, warm_up, lambda step, done: pipe.send(messages.Step(step, done)), prepare)
        device = predictor.served.device
        pipe.send(messages.Ready(predictor.served, _device_memory(device), _device_memory_total(device)))
    except Exception as error:
        with contextlib.suppress(OSError):  # the front has left, and this process with it
            pipe.send(messages.Refused(one_line(error), cause(error)))
        return
    blocks: dict[int, Block] = {}
    while True:
        try:
            message: messages.ToWorker = pipe.recv()
        except (EOFError, OSError):
            if ends:
                heir.join(1.0)  # the front is about to end this process, or has died and its last words are read
            return
        match message:
            case messages.NewBlock(number, size):
                blocks[number] = Block(number, reduction.recv_handle(pipe), size)
            case messages.Forget(number):
                blocks.pop(number).close()
            case messages.Batch(block=number):
                pipe.send(_answer(predictor, blocks[number], message))
            case _:  # a bug: the process ends with a trace
                assert_never(message)


def get_ready(
    factory: Factory,
    warm_up: WarmUp,
    report: Report = lambda _, __: None,
    prepare: Callable[[], None] | None = None,
) -> Predictor:
    """Import torch, load, check the kernels, warm up, and log how long each took; returns the predictor.

    Raises:
        Exception: the archive cannot be loaded or run, or the device is lost.
    """
    start, done, share = time.monotonic(), [], LOADED_CPU
    report("torch is imported", 0.0)
    if prepare:
        prepare()
        done.append(("imported torch", time.monotonic()))
    report("the archive is loaded", 0.0)  # of what this is a share shows the device, which is not known yet
    predictor = factory()
    done.append(("loaded", time.monotonic()))
    if not predictor.served.device.startswith("cpu"):
        report("the kernels are checked", LOADED_GPU)
        predictor.check_kernels()
        share = CHECKED
        done.append(("checked kernels", time.monotonic()))
    batches = _warm_up(predictor, warm_up, lambda step, part: report(step, share + (1 - share) * part))
    if batches:
        done.append((f"warmed up with {batches} {'batch' if batches == 1 else 'batches'}", time.monotonic()))
    ends = [start, *(end for _, end in done)]
    spans = ", ".join(f"{what} in {end - before:.1f} s" for (what, end), before in zip(done, ends, strict=False))
    log.info("Ready on %s after %.1f s: %s.", predictor.served.device, ends[-1] - start, spans)
    return predictor


def _warm_up(predictor: Predictor, limits: WarmUp, report: Report) -> int:
    """Run 1, 2, 4, ... images of each size, as many as a batch may have; the number of such batches.

    A batch for which the device has no memory ends its size: when one comes, the service halves it.
    """
    plan = [(size, _batches(predictor, size, limits)) for size in limits.sizes]
    count, begun, done = sum(len(batches) for _, batches in plan), 0, 0
    for size, batches in plan:
        for number, images in enumerate(batches):
            report(f"warm-up {begun + number + 1} of {count}", (begun + number) / count)
            try:
                predictor.warm_up([size], images)
                done += 1
            except Exception as error:
                if images == 1 or classify(error) != "memory":
                    raise
                _empty_cache()
                height, width = size
                log.warning("%d images of %d x %d do not fit into the device's memory.", images, width, height)
                break
        begun += len(batches)
    return done


def _batches(predictor: Predictor, size: tuple[int, int], limits: WarmUp) -> list[int]:
    """How many images of a size each batch of the warm-up has."""
    largest = 1 if predictor.served.device.startswith("cpu") else limits.max_batch_size
    rows, columns = padded_size(*size, **predictor.served.metadata.test_scale)
    counts = sorted({largest, *(1 << k for k in range(largest.bit_length()))})
    return [images for images in counts if images == 1 or images * rows * columns <= limits.max_batch_pixels]


def cause(error: Exception) -> str:
    """Why a predictor cannot be loaded, for clients: a sentence that names no path; only messages tell errors apart."""
    text = str(error).lower()
    if is_shortage(error):
        return "There is not enough memory for the model."
    if "does not exist" in text or "no such file" in text:
        return "The archive is gone."
    if "manifest" in text:
        return "The archive is not the one that its manifest lists."
    if classify(error) == "sticky" or any(sign in text for sign in _GONE):
        return "The device does not answer."
    if any(sign in text for sign in ("archive", "does not load", "metadata", "format version")):
        return "The archive cannot be loaded."
    return "The log says why."


def classify(error: Exception) -> str:
    """What an error means: `memory`, `sticky` (no later call on this device can succeed) or `failed`.

    Errors of a scripted operator arrive as plain RuntimeError, so only the message tells them apart.
    """
    text = str(error).lower()
    if is_shortage(error):
        return "memory"
    return "sticky" if any(sign in text for sign in _STICKY) else "failed"


def _answer(predictor: Predictor, block: Block, batch: messages.Batch) -> messages.FromWorker:
    """Run one batch; its maps go to the block, the rest into the message."""
    device = predictor.served.device
    try:
        answers = predictor.predict([block.pixels(place) for place in batch.places])
        if len(answers) != len(batch.places):
            raise RuntimeError(f"{len(batch.places)} images gave {len(answers)} answers. This is a bug.")
        for place, answer in zip(batch.places, answers, strict=True):
            block.map(place)[...] = answer.segment_ids
        return messages.Done(batch.number, [answer.segments for answer in answers], _device_memory(device))
    except Exception as error:
        kind = classify(error)
        if kind == "sticky":
            log.critical("The device is lost, so this worker ends: %s", one_line(error))
            os._exit(EXIT_STICKY)  # not sys.exit: a broken CUDA context may hang in its destructors
        if kind == "memory":
            _empty_cache()
            return messages.OutOfMemory(batch.number, one_line(error), _device_memory(device))
        return messages.Failed(batch.number, one_line(error), _device_memory(device))


def _end_with_parent(ends: streams.Ends | None) -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    if ends:
        streams.read_will(ends)
    os._exit(1)


def _cuda() -> ModuleType | None:
    """`torch.cuda` where the predictor uses it; this module never imports torch."""
    cuda = sys.modules.get("torch.cuda")
    return cuda if cuda is not None and cuda.is_initialized() else None


def _empty_cache() -> None:
    if cuda := _cuda():
        cuda.empty_cache()


def _device_memory(device: str) -> int:
    """Bytes that the predictor holds: on its GPU, or of the process."""
    if cuda := _cuda():
        return int(cuda.memory_reserved(device))
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _device_memory_total(device: str) -> int:
    """Bytes that the predictor's GPU has, or this host."""
    if cuda := _cuda():
        return int(cuda.mem_get_info(device)[1])
    return host.memory()

"""The wire between the front and a worker: each message that their pipe carries, and which way it goes.

    front --NewBlock, its descriptor; Forget; Batch--> worker
    front <--Step, a few; Ready or Refused, once; then Done, OutOfMemory or Failed for each batch-- worker

`device_memory` is what the predictor holds on its device, in bytes. A reason is one line.
"""

from typing import NamedTuple

from model.interface.panoptic import Segment
from model.interface.served import ServedModel
from service.workers.shared_memory import Place


class NewBlock(NamedTuple):
    """Shared memory of `size` bytes, whose descriptor follows this message."""

    number: int
    size: int


class Forget(NamedTuple):
    """The front has closed a block, so the worker closes it too."""

    number: int


class Batch(NamedTuple):
    """Images to segment; they lie at these places of a block, which also takes their maps."""

    number: int
    block: int
    places: list[Place]


class Step(NamedTuple):
    """A step of the start begins, such as `warm-up 2 of 3`.

    `done` is the share of the start before it, from 0 to 1; also 0 where that is not known yet.
    """

    name: str
    done: float


class Ready(NamedTuple):
    """The predictor is loaded and warm, on a device of `device_memory_total` bytes."""

    served: ServedModel
    device_memory: int
    device_memory_total: int


class Refused(NamedTuple):
    """The predictor cannot be loaded; the worker ends. `cause` is the reason for clients: it names no path."""

    reason: str
    cause: str


class Done(NamedTuple):
    """A batch is answered: here are the segments of each image, their maps are in its block."""

    number: int
    segments: list[tuple[Segment, ...]]
    device_memory: int


class OutOfMemory(NamedTuple):
    """A batch did not fit into the device's memory."""

    number: int
    reason: str
    device_memory: int


class Failed(NamedTuple):
    """The predictor failed on a batch."""

    number: int
    reason: str
    device_memory: int


ToWorker = NewBlock | Forget | Batch
FromWorker = Step | Ready | Refused | Done | OutOfMemory | Failed

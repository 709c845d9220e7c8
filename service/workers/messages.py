"""The wire between the front and a worker: each message that their pipe carries, and which way it goes.

front --NewBlock, its descriptor; Forget; Batch--> worker
front <--Ready or Refused, once; then Done, OutOfMemory or Failed for each batch-- worker
"""

from typing import NamedTuple

from model.interface.panoptic import Segment
from model.interface.served import ServedModel
from service.workers.shared_memory import Place


class NewBlock(NamedTuple):
    """Shared memory whose descriptor follows this message.

    Attributes:
        number: what both sides call the block.
        size: bytes.
    """

    number: int
    size: int


class Forget(NamedTuple):
    """The front has closed a block, so the worker closes it too."""

    number: int


class Batch(NamedTuple):
    """Images to segment.

    Attributes:
        number: what the answer refers to.
        block: number of the block that holds the images and takes their maps.
        places: where each image lies in it.
    """

    number: int
    block: int
    places: list[Place]


class Ready(NamedTuple):
    """The predictor is loaded and warm.

    Attributes:
        served: what it serves.
        device_memory: bytes that it holds on its device.
        device_memory_total: bytes that the device has.
    """

    served: ServedModel
    device_memory: int
    device_memory_total: int


class Refused(NamedTuple):
    """The predictor cannot be loaded; the worker ends. The reason is one line."""

    reason: str


class Done(NamedTuple):
    """A batch is answered; its maps are in its block.

    Attributes:
        number: of the batch.
        segments: of each image.
        device_memory: bytes that the predictor holds on its device.
    """

    number: int
    segments: list[tuple[Segment, ...]]
    device_memory: int


class OutOfMemory(NamedTuple):
    """A batch did not fit into the device's memory; the fields are those of `Failed`."""

    number: int
    reason: str
    device_memory: int


class Failed(NamedTuple):
    """The predictor failed on a batch.

    Attributes:
        number: of the batch.
        reason: one line.
        device_memory: bytes that the predictor holds on its device.
    """

    number: int
    reason: str
    device_memory: int


ToWorker = NewBlock | Forget | Batch
FromWorker = Ready | Refused | Done | OutOfMemory | Failed

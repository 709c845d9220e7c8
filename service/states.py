"""What the engine stands on, and its states: `Loading`, then `Serving` or `Failed`, and `Draining` at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from model.interface.panoptic import Panoptic, Pixels
from model.interface.served import ServedModel
from service.batching.batcher import Batcher
from service.errors import NotReadyError
from service.workers.progress import Outlook


class Backend(Protocol):
    """What computes the answers: a pool of workers, or a predictor in this process."""

    @property
    def live(self) -> int:
        """Number of devices that answer now."""

    def outlook(self) -> Outlook:
        """While no device answers: what is waited for, and when it is worth asking again."""

    def watch(self, on_change: Callable[[int], None], /) -> None:
        """Call `on_change` with `live` whenever it changes."""

    async def start(self) -> ServedModel:
        """Load and warm up the model; returns it."""

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image, in order."""

    async def close(self) -> None:
        """End it, also while it starts."""


@dataclass(frozen=True)
class Loading:
    """The model is loaded and warmed up."""


@dataclass(frozen=True)
class Serving:
    """Work is taken while a device lives.

    Attributes:
        served: the model that answers.
        batcher: takes images to the devices.
    """

    served: ServedModel
    batcher: Batcher[Pixels, Panoptic]


@dataclass(frozen=True)
class Draining:
    """No new work is taken any more; `before` finishes accepted work; None if the drain began during loading."""

    before: Serving | None


@dataclass(frozen=True)
class Failed:
    """The start failed with this error."""

    error: Exception


State = Loading | Serving | Draining | Failed


def explain(state: State, backend: Backend) -> Outlook | None:
    """Why no work is taken in this state, and when to try again; None while work is taken."""
    match state:
        case Serving():
            return None if backend.live else backend.outlook()
        case Draining():
            return Outlook(NotReadyError.STOPPING, NotReadyError.REPLACED_SECONDS)
        case Failed():  # why is told in the log; the process ends now
            return Outlook(NotReadyError.LOADING, NotReadyError.REPLACED_SECONDS)
        case Loading():
            return backend.outlook()

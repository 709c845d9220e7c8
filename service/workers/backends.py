"""Who computes behind the engine: the pool of workers, or a predictor in this process."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from model.interface.panoptic import Panoptic, Pixels


class Backend(Protocol):
    """Who computes: the pool of workers, or a predictor in this process."""

    @property
    def live(self) -> int:
        """Devices that answer now."""

    @property
    def metadata(self) -> Any:
        """Of the archive, with `categories` and `to_json`."""

    @property
    def device(self) -> str:
        """Names of the devices."""

    @property
    def precision(self) -> str:
        """The network's type."""

    @property
    def kernel(self) -> str:
        """The form of its deformable convolutions."""

    @property
    def model_name(self) -> str:
        """As clients see it."""

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """What images have to share to be batched."""

    async def start(self) -> None:
        """Load and warm up."""

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image."""

    async def close(self) -> None:
        """End it."""


class InProcess:
    """A predictor on one thread of this process.

    Args:
        predictor: with `predict`, `padded_size`, `warm_up`, `metadata`, `device`, `precision`, `kernel`,
            `model_name`.
        warmup_sizes: heights and widths to run before ready.
    """

    def __init__(self, predictor: Any, warmup_sizes: Sequence[tuple[int, int]]) -> None:
        self._predictor, self._sizes = predictor, warmup_sizes
        self._thread = ThreadPoolExecutor(1, "predictor")
        self.live = 0
        self.metadata = predictor.metadata
        self.device, self.precision = str(predictor.device), str(predictor.precision)
        self.kernel, self.model_name = str(predictor.kernel), str(predictor.model_name)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """What images have to share to be batched."""
        rows, columns = self._predictor.padded_size(height, width)
        return rows, columns

    async def start(self) -> None:
        """Warm up."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._predictor.warm_up, self._sizes)
        self.live = 1

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image."""
        found: list[Panoptic] = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._predictor.predict, images
        )
        return found

    async def close(self) -> None:
        """End the thread."""
        self.live = 0
        self._thread.shutdown(wait=False, cancel_futures=True)

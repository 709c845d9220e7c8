"""A predictor on a thread of this process."""

import asyncio
import threading
from typing import Any

import numpy as np

from model.interface.panoptic import Panoptic
from service.workers.in_process import InProcess
from tests.service.emulated import SERVED, Emulated, answer, image


class Threaded(Emulated):
    """Remembers what it was warmed up with, and on which threads it ran."""

    def warm_up(self, sizes: Any) -> None:
        self.sizes, self.threads = sizes, {threading.current_thread()}

    def predict(self, images: list[Any]) -> list[Panoptic]:
        self.threads.add(threading.current_thread())
        return super().predict(images)


def test_it_warms_up_serves_and_answers_on_one_other_thread() -> None:
    async def scenario() -> None:
        predictor = Threaded()
        backend = InProcess(predictor, ((48, 64),))
        assert backend.live == 0
        assert await backend.start() is SERVED
        assert backend.live == 1
        images = [image((90, 0, 0)), image((30, 0, 0), 5, 7)]
        for found, given in zip(await backend.run(images), images, strict=True):
            assert np.array_equal(found.segment_ids, answer(given).segment_ids)
        await backend.close()
        assert backend.live == 0
        assert predictor.sizes == ((48, 64),)
        assert len(predictor.threads) == 1
        assert threading.current_thread() not in predictor.threads

    asyncio.run(scenario())

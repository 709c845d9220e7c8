"""Predictors without a network, for workers: the colour of an image's first pixel says what happens to it."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from model.interface.categories import Category, Labels
from model.interface.metadata import Metadata
from model.interface.panoptic import Panoptic, Segment
from model.interface.served import ServedModel

GOOD, FAIL, SHORTAGE = (10, 10, 10), (200, 0, 0), (0, 200, 0)
KILL, STICKY, HANG = (0, 0, 200), (200, 200, 0), (0, 200, 200)
CATEGORIES = Labels((Category(7, "road", False, (128, 64, 128)), Category(26, "car", True, (0, 0, 142))))
METADATA = Metadata("emulated", "none", CATEGORIES, {}, {"short_side": 480, "long_side": 640})
SERVED = ServedModel("emulated@00000000", METADATA, "cpu", "float32", "none")


@dataclass
class Emulated:
    """T(n) = `base_ms` + `image_ms` n, without CPU; the map's upper part depends on the image alone."""

    base_ms: float = 0.0
    image_ms: float = 0.0
    memory_pixels: int = 1 << 40
    served: ServedModel = SERVED

    def check_kernels(self) -> None:
        pass

    def warm_up(self, sizes: Sequence[tuple[int, int]], images: int = 1) -> None:
        pass

    def predict(self, images: list[Any]) -> list[Panoptic]:
        time.sleep((self.base_ms + self.image_ms * len(images)) / 1000)
        marks = [tuple(int(v) for v in image[0, 0]) for image in images]
        if sum(image.shape[0] * image.shape[1] for image in images) > self.memory_pixels:
            raise RuntimeError("The following operation failed in the TorchScript interpreter.\nCUDA out of memory.")
        if KILL in marks:
            os.kill(os.getpid(), signal.SIGKILL)
        if FAIL in marks:
            raise ValueError("bad image")
        if STICKY in marks:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if HANG in marks:
            time.sleep(3600)
        return [answer(image) for image in images]


def answer(image: Any) -> Panoptic:
    """Road above, car below; the line between them at a height that the image's first pixel says."""
    height, width = image.shape[:2]
    line = 1 + int(image[0, 0, 0]) * (height - 1) // 256
    ids = np.ones((height, width), np.uint8)
    ids[line:] = 2
    segments = [Segment(1, 7, "road", False, 0.9, line * width, (0, 0, width, line))]
    if line < height:
        segments.append(Segment(2, 26, "car", True, 0.8, (height - line) * width, (0, line, width, height - line)))
    return Panoptic(ids, tuple(segments))


def broken() -> Emulated:
    raise ValueError("It is not there.\nNo such archive.")


def dying() -> Emulated:
    os._exit(3)


def broken_while(path: str) -> Emulated:
    """Refuses to start while a file is there."""
    if os.path.exists(path):
        raise ValueError("not yet")
    return Emulated()


def held_while(path: str) -> Emulated:
    """Takes as long to load as a file exists."""
    while os.path.exists(path):
        time.sleep(0.01)
    return Emulated()


def fallen(*_: object) -> Emulated:
    """With a kernel that failed."""
    served = replace(SERVED, device="cuda:0", fallbacks={"nms": "it raised ValueError: no"})
    return Emulated(served=served)


def on_second_gpu() -> Emulated:
    """What stands for `torch.cuda` in its process knows that GPU alone, and no current one."""
    reserved, total = {"cuda:1": 3}, {"cuda:1": (5, 8)}
    cuda = SimpleNamespace(
        is_initialized=lambda: True, memory_reserved=reserved.__getitem__, mem_get_info=total.__getitem__
    )
    sys.modules["torch.cuda"] = cuda  # type: ignore[assignment]
    return Emulated(served=replace(SERVED, device="cuda:1"))


def named(path: str) -> Emulated:
    """With the name that a file holds."""
    with open(path, encoding="utf-8") as file:
        return Emulated(served=replace(SERVED, name=file.read()))


quick = Emulated
standard = partial(Emulated, base_ms=20.0, image_ms=5.0)


def image(color: tuple[int, int, int] = GOOD, height: int = 48, width: int = 64) -> Any:
    return np.full((height, width, 3), color, np.uint8)

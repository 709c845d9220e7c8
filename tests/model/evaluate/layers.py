"""A network that only knows where streets are, and a folder to evaluate it on."""

from pathlib import Path
from typing import Any

import numpy as np

from model.interface.categories import Labels
from model.interface.panoptic import Panoptic, Segment
from model.predictor import Analysis
from tests.model.datasets.folder import CAR, ROAD, write_folder


def analysis(ids: np.ndarray, segments: tuple[Segment, ...], semantic: np.ndarray) -> Analysis:
    """One without detections."""
    nothing = np.zeros((0, 4), np.float32)
    masks = np.zeros((0, 28, 28), np.float32)
    empty = nothing[:, 0]
    return Analysis(Panoptic(ids, segments), semantic, nothing, empty, empty.astype(np.int64), masks)


class Layers:
    """Stuff in horizontal layers, by category name and the share of the height at which it ends."""

    def __init__(self, labels: Labels, layers: dict[str, float]) -> None:
        self.categories = labels
        self.layers = layers

    def analyze(self, images: list[Any]) -> list[Analysis]:
        return [self.answer(*image.shape[:2]) for image in images]

    def answer(self, height: int, width: int) -> Analysis:
        ids, semantic = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        index = {label.name: (i, label) for i, label in enumerate(self.categories)}
        segments, top = [], 0
        for number, (name, share) in enumerate(self.layers.items(), start=1):
            i, label = index[name]
            bottom = round(height * share)
            ids[top:bottom], semantic[top:bottom] = number, i
            box = (0, top, width, bottom - top)
            segments.append(Segment(number, label.id, name, label.isthing, 1.0, (bottom - top) * width, box))
            top = bottom
        return analysis(ids, tuple(segments), semantic)


def car_above_road(folder: Path) -> tuple[Path, Path, Path]:
    """A folder with one photo of 10 x 4: four rows of a car over six rows of road."""
    ids = np.full((10, 4), 70_000)
    ids[:4] = 300
    return write_folder(folder, [CAR, ROAD], ids)

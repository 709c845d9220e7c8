"""A predictor of a few lines in place of the network, and what the tests of the interface send and read."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.interface.categories import Category, Labels
from model.interface.metadata import Metadata
from model.interface.panoptic import Panoptic, Segment
from model.interface.served import ServedModel
from service.settings import Settings

LABELS = Labels((Category(7, "road", False, (128, 64, 128)), Category(26, "car", True, (0, 0, 142))))
METADATA = Metadata("halves", "none", LABELS, {}, {"short_side": 480, "long_side": 640})


class TopAndBottom:
    """Answers that the upper half is a car and the lower half road."""

    served = ServedModel("halves@00000000", METADATA, "cpu", "float32", "none")

    def check_kernels(self) -> None:
        pass

    def warm_up(self, sizes: Any, images: int = 1) -> None:
        pass

    def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
        return [self.answer(*image.shape[:2]) for image in images]

    def answer(self, height: int, width: int) -> Panoptic:
        ids = np.full((height, width), 2, np.uint8)
        ids[: height // 2] = 1
        things = height // 2
        road = Segment(2, 7, "road", False, 0.5, (height - things) * width, (0, things, width, height - things))
        car = Segment(1, 26, "car", True, 0.9, things * width, (0, 0, width, things))
        return Panoptic(ids, (car, road) if things else (road,))


def settings(tmp_path: Path, **changes: Any) -> Settings:
    archive = tmp_path / "archive.pt"
    archive.write_bytes(b"not read")
    return Settings(model=archive, **changes)


def photo(width: int = 6, height: int = 4, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(buffer, form)
    return buffer.getvalue()


def ids_of(png: bytes) -> np.ndarray:
    rgb = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]

"""A predictor whose shortage of memory comes from inside a scripted operator, as the real one's would."""

from typing import Any

import torch

from model.interface.panoptic import Panoptic
from tests.service.emulated import Emulated

LIBRARY = torch.library.Library("upsnet_resilience", "DEF")
LIBRARY.define("allocate(Tensor pixels, int limit) -> Tensor")


def _allocate(pixels: torch.Tensor, limit: int) -> torch.Tensor:
    if pixels.numel() > limit:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
    return pixels


LIBRARY.impl("allocate", _allocate, "CPU")


def _network(pixels: torch.Tensor, limit: int) -> torch.Tensor:
    return torch.ops.upsnet_resilience.allocate(pixels, limit)


class Scripted(Emulated):
    """Runs a scripted function that allocates for the whole batch before it answers."""

    def predict(self, images: list[Any]) -> list[Panoptic]:
        pixels = torch.cat([torch.from_numpy(image).flatten() for image in images])
        _script(pixels, 3 * 3 * 48 * 64)
        return super().predict(images)


_script = torch.jit.script(_network)

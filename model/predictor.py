"""The archive behind numpy: images in, panoptic segmentations out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import archive, graphs, memory, ops
from model.interface import host
from model.interface.categories import Labels
from model.interface.panoptic import Panoptic, Pixels, Segment
from model.interface.served import PRECISIONS, ServedModel
from model.kernels import choice, self_check

log = logging.getLogger(__name__)

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in PRECISIONS}


@dataclass(frozen=True)
class Analysis:
    """Everything the network finds in one image, for evaluation.

    Attributes:
        panoptic: the answer that `predict` gives.
        semantic: (H, W) uint8, semantic index of the best class of each pixel.
        boxes: (D, 4) float32, the detections' boxes, xyxy in pixels of the image.
        scores: (D,) float32, the detections' scores.
        category_ids: (D,) int64, the dataset's own ids.
        mask_logits: (D, 28, 28) float32, each over its detection's box.
    """

    panoptic: Panoptic
    semantic: Pixels
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    category_ids: NDArray[np.int64]
    mask_logits: NDArray[np.float32]


def choose_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`.

    Raises:
        archive.ArchiveError: a CUDA device is asked for that torch does not find.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    _, _, number = device.partition(":")
    there = torch.cuda.device_count() if device.startswith("cuda") and torch.cuda.is_available() else 0
    if device.startswith("cuda") and int(number or 0) >= there:
        found = f"of that number, torch finds {there}" if there else "is found"
        raise archive.ArchiveError(f"Device {device}: no CUDA device {found}. Use another, `cpu` or `auto`.")
    return device


def choose_precision(precision: str, device: str) -> str:
    """`auto` becomes `float16` on CUDA, `bfloat16` on a CPU that has units for it, else `float32`.

    Raises:
        archive.ArchiveError: a CPU does not serve in float16, nor a GPU of compute capability 7 in bfloat16.
    """
    on_cpu = device == "cpu"
    if on_cpu and precision == "float16":
        raise archive.ArchiveError("Precision float16 needs a CUDA device; use float32 or bfloat16 on a CPU.")
    if precision == "auto":
        return "float16" if not on_cpu else "bfloat16" if host.multiplies_bfloat16() else "float32"
    if precision == "bfloat16" and on_cpu and not host.multiplies_bfloat16():
        log.warning("No units for bfloat16 are known of this processor: float32 may be faster.")
    if precision == "bfloat16" and not on_cpu and torch.cuda.get_device_capability(device) < (8, 0):
        raise archive.ArchiveError(
            f"Precision bfloat16 needs a GPU of compute capability 8.0 or above; use float16 on {device}."
        )
    return precision


def compute_in_full() -> None:
    """From now on the whole process multiplies float32 numbers in float32.

    Otherwise a GPU's convolutions round their inputs to 10 binary digits (TensorFloat-32).
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class Predictor:
    """A loaded archive on one device. Once there is one, `compute_in_full` holds in its process.

    One call at a time: on a GPU its CUDA graphs share memory.

    Args:
        path: path of the archive.
        device: auto, cpu, cuda or cuda:N.
        precision: float32, float16, bfloat16, or auto: see `choose_precision`.
        kernels: auto, or off for the slower forms of all operators on CUDA, in the whole process.

    Raises:
        archive.ArchiveError: the archive cannot be used, or not on this device in this precision.

    Attributes:
        served: what it serves, and how; after `check_kernels` also what fell back.
        categories: the classes that it tells apart.
    """

    def __init__(self, path: str | Path, device: str = "auto", precision: str = "auto", kernels: str = "auto") -> None:
        path = Path(path)
        device = choose_device(device)
        precision = choose_precision(precision, device)
        if kernels == "off":
            choice.switch_off()
        if device == "cpu":
            memory.keep_freed_memory()
        compute_in_full()
        self._network, metadata = archive.load(path, device)
        archive.cast_weights(self._network, DTYPES[precision])
        self._answer: Callable[[list[Tensor]], list[Any]] = self._network
        if device.startswith("cuda") and kernels != "off" and graphs.can_be_cut(self._network):
            self._answer = graphs.Graphs(self._network, torch.cuda.get_device_properties(device).total_memory)
        name, kernel = archive.full_name(path, metadata), ops.kernel(device)
        self.categories = metadata.categories
        self.served = ServedModel(name, metadata, device, precision, kernel, torch.get_num_threads())

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that the network works at for an image; images with the same can share a batch."""
        rows, columns = self._network.padded_size(height, width)
        return rows, columns

    def predict(self, images: Sequence[Pixels]) -> list[Panoptic]:
        """Segment images of one padded size.

        Args:
            images: (H, W, 3) uint8 RGB arrays.

        Returns:
            An answer for each image, in order.
        """
        if not images:
            return []
        with torch.inference_mode():
            return [to_panoptic(found, self.categories) for found in self._answer(self._upload(images))]

    def analyze(self, images: Sequence[Pixels]) -> list[Analysis]:
        """Like `predict`, with the semantic map and the instances of the detection path."""
        if not images:
            return []
        with torch.inference_mode():
            found = self._network.analyze(self._upload(images))
            return [to_analysis(one, self.categories) for one in found]

    def check_kernels(self) -> None:
        """Run the GPU's kernels on small inputs, and replace those that fail; `served` then says which.

        Raises:
            torch.OutOfMemoryError: the device has no memory left.
            RuntimeError: the device is lost.
        """
        device, precision = self.served.device, self.served.precision
        self_check.check(ops.ON_GPU, device, DTYPES[precision])
        self.served = replace(self.served, kernel=ops.kernel(device), fallbacks=choice.replaced())

    def warm_up(self, sizes: Sequence[tuple[int, int]], images: int = 1) -> None:
        """Run so many images of each height and width, twice.

        The first run compiles kernels and optimises the graph.
        """
        for height, width in sizes:
            for _ in range(2):
                self.predict([np.zeros((height, width, 3), np.uint8)] * images)

    def _upload(self, images: Sequence[Pixels]) -> list[Tensor]:
        if self.served.device == "cpu":
            return [to_tensor(image, "cpu") for image in images]
        packed = pack(images, page_locked=True)
        return unpack(packed.to(self.served.device, non_blocking=True), images)


def pack(images: Sequence[Pixels], page_locked: bool) -> Tensor:
    """The numbers of images (H, W, 3) uint8, one after the other: (sum of 3 H W,) uint8 on the host.

    From page-locked memory they go to a device in one copy for which nobody waits. torch keeps such memory for the next
    batch, and does not give it out before the copy has ended.
    """
    packed = torch.empty(sum(image.size for image in images), dtype=torch.uint8, pin_memory=page_locked)
    numbers, start = packed.numpy(), 0
    for image in images:
        numbers[start : start + image.size].reshape(image.shape)[...] = image
        start += image.size
    return packed


def unpack(packed: Tensor, images: Sequence[Pixels]) -> list[Tensor]:
    """Views (3, H, W) of packed images of these shapes, as they lie: each pixel's three numbers side by side."""
    parts = packed.split([image.size for image in images])
    return [part.view(image.shape).permute(2, 0, 1) for part, image in zip(parts, images, strict=True)]


def to_tensor(image: Pixels, device: str | torch.device) -> Tensor:
    """(H, W, 3) uint8 array as (3, H, W) on a device. It is a copy: arrays from decoders may be read-only."""
    return torch.tensor(image).to(device).permute(2, 0, 1)


def to_panoptic(found: Any, labels: Labels) -> Panoptic:
    """The network's `Panoptic` tuple with the dataset's ids and names."""
    columns = (found.classes, found.scores, found.areas, found.boxes)
    segments = []
    for i, (kind, score, area, box) in enumerate(zip(*(c.cpu().tolist() for c in columns), strict=True), start=1):
        label = labels[kind]
        x, y, width, height = box
        bbox = (x, y, width, height)
        segments.append(Segment(i, label.id, label.name, label.isthing, round(score, 4), area, bbox))
    return Panoptic(found.segment_ids.cpu().numpy(), tuple(segments))


def to_analysis(found: Any, labels: Labels) -> Analysis:
    """The network's `Analysis` tuple with the dataset's ids."""
    thing_ids = np.array(labels.things.ids, np.int64)
    return Analysis(
        to_panoptic(found.panoptic, labels),
        found.semantic.cpu().numpy(),
        found.boxes.cpu().numpy(),
        found.scores.cpu().numpy(),
        thing_ids[found.classes.cpu().numpy() - 1],
        found.mask_logits.cpu().numpy(),
    )

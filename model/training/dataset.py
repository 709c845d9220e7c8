"""Annotated photos as the samples that training takes: flipped, scaled, cut and normalised."""

import random
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model import ops
from model.datasets.records import Annotations, ImageId, ImageRecord, check_same_size, read_ids, read_photo
from model.interface.panoptic import Pixels
from model.interface.scale import padded_side, scaled_side, test_scale
from model.network.images import ImageTransform
from model.ops import source_indices
from model.training import outlines
from model.training.outlines import Outline
from model.training.recipe import Recipe

Number = TypeVar("Number", np.uint8, np.int32)


class Sample(NamedTuple):
    """One photo as the network sees it in training.

    Attributes:
        name: the photo's path, for messages.
        pixels: (3, H, W) float32, normalised, padded to multiples of 32.
        size: height and width before padding.
        scale: factor from the original to the resized photo.
        semantic: (H, W) int64 semantic index, 255 = void or padding.
        boxes: (G, 4) float32 xyxy in original pixels: the objects, which are the things that are no crowd.
        classes: (G,) int64 class of each object, 1..T.
        masks: (G, H, W) bool mask of each object, resized.
        crowd_boxes: (K, 4) float32 boxes of the crowds, as `boxes`.
        crowd_classes: (K,) int64 class of each crowd, 1..T.
        crowds: (H, W) bool, the pixels of all crowds, resized; always from the PNG.
        polygons: rings of each object, in original pixels; empty where the data set has only masks.
    """

    name: str
    pixels: Tensor
    size: tuple[int, int]
    scale: float
    semantic: Tensor
    boxes: Tensor
    classes: Tensor
    masks: Tensor
    crowd_boxes: Tensor
    crowd_classes: Tensor
    crowds: Tensor
    polygons: list[list[list[float]]] = []  # noqa: RUF012 -- never changed

    def to(self, device: torch.device) -> "Sample":
        """The sample with its tensors on a device."""
        parts: list[Any] = [part.to(device) if isinstance(part, Tensor) else part for part in self]
        return Sample(*parts)


class Photo(NamedTuple):
    """A photo and its labels before scaling.

    Attributes:
        rgb: (H, W, 3) uint8.
        semantic: (H, W) uint8 semantic index, 255 = void.
        instances: (H, W) int32 number of the thing at a pixel, from 1; 0 = none. Crowds have the last numbers.
        classes: class 1..T of each numbered thing.
        crowds: how many of the things are crowds.
    """

    rgb: Pixels
    semantic: Pixels
    instances: NDArray[np.int32]
    classes: list[int]
    crowds: int


def read_annotated(record: ImageRecord, annotations: Annotations) -> Photo:
    """A photo and its PNG, decoded.

    Raises:
        AnnotationError: they cannot be read or differ in size.
    """
    ids, rgb = read_ids(record), read_photo(record)
    check_same_size(record, rgb.shape, ids)
    index, things_index = annotations.categories.index, annotations.categories.things.index
    semantic = np.full(ids.shape, 255, np.uint8)
    instances = np.zeros(ids.shape, np.int32)
    classes = []
    things = [s for s in record.segments if s.category_id in things_index]
    things.sort(key=lambda segment: segment.iscrowd)
    for segment in record.segments:
        semantic[ids == segment.id] = index[segment.category_id]
    for number, segment in enumerate(things, start=1):
        instances[ids == segment.id] = number
        classes.append(things_index[segment.category_id] + 1)
    return Photo(rgb, semantic, instances, classes, sum(segment.iscrowd for segment in things))


class PanopticDataset:
    """Samples in the form that a recipe asks for; the same index and epoch give the same sample.

    Args:
        annotations: the photos.
        recipe: gives scales, crops and jitter.
        transform: image transform of the network that is trained.
        outlines_of: outlines by image id, where they replace the boxes and masks of the PNGs.
    """

    def __init__(
        self,
        annotations: Annotations,
        recipe: Recipe,
        transform: ImageTransform,
        outlines_of: dict[ImageId, list[Outline]] | None = None,
    ) -> None:
        self.annotations = annotations
        self.recipe = recipe
        self.transform = transform
        self.outlines_of = outlines_of

    def __len__(self) -> int:
        return len(self.annotations.images)

    def sample(self, index: int, epoch: int) -> Sample:
        """One photo, flipped, scaled and cut as this epoch draws it."""
        rng = random.Random(epoch * 1_000_003 + index)
        record = self.annotations.images[index]
        photo = read_annotated(record, self.annotations)
        flipped = rng.random() < 0.5
        if flipped:
            photo = flip(photo)
        if self.recipe.crop is not None:
            photo = jitter_color(random_crop(photo, self.recipe.crop, self.recipe.zoom, rng), self.recipe, rng)
            return to_sample(photo, str(record.photo), 1.0, self.transform)
        height, width = photo.semantic.shape
        scale = test_scale(height, width, rng.choice(self.recipe.short_sides), self.recipe.long_side)
        sample = to_sample(photo, str(record.photo), scale, self.transform)
        if self.outlines_of is None:
            return sample
        found = self.outlines_of[record.id]
        found = [outlines.flip(outline, width) for outline in found] if flipped else found
        return with_outlines(sample, found, height, width)


def flip(photo: Photo) -> Photo:
    """The photo with left and right exchanged."""
    return photo._replace(
        rgb=photo.rgb[:, ::-1].copy(),  # torch takes no negative strides, which only a copy does not keep
        semantic=photo.semantic[:, ::-1].copy(),
        instances=photo.instances[:, ::-1].copy(),
    )


def random_crop(photo: Photo, size: tuple[int, int], zoom: tuple[float, float], rng: random.Random) -> Photo:
    """A window of the photo at a random scale, near a random thing half of the time; void outside the photo."""
    height, width = photo.semantic.shape
    factor = rng.uniform(*zoom)
    rows, columns = max(round(height * factor), 1), max(round(width * factor), 1)
    top = rng.randint(min(0, rows - size[0]), max(0, rows - size[0]))
    left = rng.randint(min(0, columns - size[1]), max(0, columns - size[1]))
    if len(photo.classes) > photo.crowds and rng.random() < 0.5:
        number = rng.randint(1, len(photo.classes) - photo.crowds)
        ys, xs = np.nonzero(photo.instances == number)
        if rows > size[0]:
            top = min(max(int(ys.mean() * factor) - size[0] // 2 + rng.randint(-60, 60), 0), rows - size[0])
        if columns > size[1]:
            left = min(max(int(xs.mean() * factor) - size[1] // 2 + rng.randint(-80, 80), 0), columns - size[1])

    def cut(array: NDArray[Number], fill: int, resample: Image.Resampling) -> NDArray[Number]:
        resized = np.asarray(Image.fromarray(array).resize((columns, rows), resample))
        result = np.full((*size, *array.shape[2:]), fill, array.dtype)
        y, x = max(-top, 0), max(-left, 0)
        part = resized[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
        result[y : y + part.shape[0], x : x + part.shape[1]] = part
        return result

    return photo._replace(
        rgb=cut(photo.rgb, 114, Image.Resampling.BILINEAR),
        semantic=cut(photo.semantic, 255, Image.Resampling.NEAREST),
        instances=cut(photo.instances, 0, Image.Resampling.NEAREST),
    )


def jitter_color(photo: Photo, recipe: Recipe, rng: random.Random) -> Photo:
    """The photo with random brightness, contrast and saturation."""
    amount = recipe.color_jitter
    brightness, contrast, saturation = (1 + rng.uniform(-amount, amount) for _ in range(3))
    rgb = photo.rgb.astype(np.float32)
    grey = rgb.mean(axis=2, keepdims=True)
    rgb = grey + (rgb - grey) * saturation
    rgb = (rgb - 114) * contrast + 114 * brightness
    return photo._replace(rgb=rgb.clip(0, 255).astype(np.uint8))


def to_sample(photo: Photo, name: str, scale: float, transform: ImageTransform) -> Sample:
    """The sample of a photo: resized, normalised and padded, with the box of the visible part of each thing."""
    height, width = photo.semantic.shape
    size = (scaled_side(height, scale), scaled_side(width, scale))
    padded = (padded_side(size[0]), padded_side(size[1]))
    rgb = torch.tensor(photo.rgb).permute(2, 0, 1)
    pixels = ops.transform([rgb], transform.mean, transform.std, [scale], [*size], *padded, torch.float32)[0]
    rows = source_indices(size[0], 1 / scale, height, pixels.device)
    columns = source_indices(size[1], 1 / scale, width, pixels.device)
    semantic = torch.full(padded, 255, dtype=torch.int64)
    semantic[: size[0], : size[1]] = torch.tensor(photo.semantic)[rows][:, columns].long()
    resized = torch.zeros(padded, dtype=torch.int32)
    resized[: size[0], : size[1]] = torch.tensor(photo.instances)[rows][:, columns]
    boxes, classes, masks, crowd_boxes, crowd_classes = [], [], [], [], []
    objects = len(photo.classes) - photo.crowds
    for number, kind in enumerate(photo.classes, start=1):
        ys, xs = np.nonzero(photo.instances == number)
        if len(ys) == 0 or ys.min() == ys.max() or xs.min() == xs.max():
            continue  # cut off, or too thin for a box
        box = [float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())]
        if number > objects:
            crowd_boxes.append(box)
            crowd_classes.append(kind)
        else:
            boxes.append(box)
            classes.append(kind)
            masks.append(resized == number)
    return Sample(
        name,
        pixels,
        size,
        scale,
        semantic,
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(classes, dtype=torch.int64),
        torch.stack(masks) if masks else torch.zeros((0, *padded), dtype=torch.bool),
        torch.tensor(crowd_boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(crowd_classes, dtype=torch.int64),
        resized > objects,
    )


def with_outlines(sample: Sample, found: list[Outline], height: int, width: int) -> Sample:
    """The sample with boxes, masks and polygons from outlines instead of from the PNG.

    Args:
        sample: sample of a whole photo.
        found: its outlines, flipped where the photo is.
        height: height of the original photo.
        width: width of the original photo.
    """
    things = [outline for outline in found if not outline.iscrowd]
    crowds = [outline for outline in found if outline.iscrowd]
    padded = sample.semantic.shape
    rows = source_indices(sample.size[0], 1 / sample.scale, height, torch.device("cpu"))
    columns = source_indices(sample.size[1], 1 / sample.scale, width, torch.device("cpu"))
    masks = torch.zeros((len(things), *padded), dtype=torch.bool)
    for mask, outline in zip(masks, things, strict=True):
        mask[: sample.size[0], : sample.size[1]] = outlines.draw(outline.polygons, height, width)[rows][:, columns]
    return sample._replace(
        boxes=torch.tensor([outline.box for outline in things], dtype=torch.float32).view(-1, 4),
        classes=torch.tensor([outline.kind for outline in things], dtype=torch.int64),
        masks=masks,
        crowd_boxes=torch.tensor([outline.box for outline in crowds], dtype=torch.float32).view(-1, 4),
        crowd_classes=torch.tensor([outline.kind for outline in crowds], dtype=torch.int64),
        polygons=[outline.polygons for outline in things],
    )


def class_weights(annotations: Annotations, power: float) -> Tensor:
    """(S,) weights of the semantic classes, (median frequency / frequency) ** power, within [0.3, 4]."""
    counts = np.zeros(len(annotations.categories))
    if power:
        for record in annotations.images[:: max(len(annotations.images) // 50, 1)]:
            values = read_annotated(record, annotations).semantic
            counts += np.bincount(values.ravel(), minlength=256)[: len(counts)]
    frequency = (counts + 1) / (counts + 1).sum()
    return torch.tensor((np.median(frequency) / frequency) ** power, dtype=torch.float32).clamp(0.3, 4)

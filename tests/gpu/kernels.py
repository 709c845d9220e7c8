"""Random tests of the Triton kernels against float64; without a device, in Triton's interpreter."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.structures import Detections
from tests.gpu import references
from tests.gpu.measure import Bench
from tests.gpu.rows import Row

T = TypeVar("T")
CASES, SECONDS = 200, 20.0


class Check(NamedTuple):
    """Whether a case is right, and what it was."""

    right: bool
    case: str


class Dice:
    """Random choices, the same each time."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Normally distributed numbers."""
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1."""
        return torch.rand(*shape, generator=self.generator)

    def whole(self, stop: int, count: int) -> Tensor:
        """Whole numbers below `stop`."""
        return torch.randint(stop, (count,), generator=self.generator)

    def pick(self, choices: Sequence[T]) -> T:
        """One of some."""
        return choices[int(self.whole(len(choices), 1))]


def count(bench: Bench, name: str, one: Callable[[Dice, str], Iterator[Check]]) -> Iterator[Row]:
    """Run cases until there are enough or the time is over; how many are wrong, and which was the first."""
    start, checks = time.monotonic(), list[Check]()
    for seed in range(2 if bench.dry else CASES):
        if time.monotonic() - start > SECONDS:
            break
        checks += one(Dice(seed), bench.device)
    wrong = [check.case for check in checks if not check.right]
    note = f"of {len(checks)} cases" + (f"; the first: {wrong[0]}" if wrong else "")
    yield Row(f"{name}, random cases that differ", len(wrong), "", note[:300], failed=bool(wrong))


def laid_out(maps: Tensor, layout: str, device: str) -> Tensor:
    """The same maps (N, C, H, W) on a device: channels first, channels last, or a part of wider ones."""
    maps = maps.to(device)
    if layout == "last":
        return maps.contiguous(memory_format=torch.channels_last)
    return torch.cat([maps, maps], 1)[:, maps.size(1) :] if layout == "part" else maps


def random_offsets(dice: Dice, kind: str, *shape: int) -> Tensor:
    """Offsets that stay near, fall on or beside whole numbers, go far, or are not finite."""
    offsets = dice.normal(*shape)
    if kind in ("inf", "-inf"):
        return torch.where(dice.uniform(*shape) < 0.3, float(kind), offsets)
    if kind == "whole":
        return (4 * offsets).round() + dice.pick([0.0, 1e-6, -1e-6, 0.5])
    return offsets * {"near": 1, "far": 1e6, "huge": 1e30}[kind]


def deformable_case(dice: Dice, device: str) -> Iterator[Check]:
    """One of the deformable convolution."""
    from model.kernels import deformable

    images, channels, outputs = dice.pick([1, 2, 3]), dice.pick([1, 3, 16, 17, 40, 96]), dice.pick([1, 5, 16, 33])
    height, width = dice.pick([1, 2, 6]), dice.pick([1, 3, 7])
    kind = dice.pick(["near", "near", "whole", "far", "huge", "inf", "-inf"])
    types = [torch.float32, torch.float16] + ([torch.bfloat16] if device == "cuda" else [])
    dtype, layout = dice.pick(types), dice.pick(["first", "last", "part"])
    features = dice.normal(images, channels, height, width).to(dtype)
    weight = (dice.normal(outputs, channels, 3, 3) / (9 * channels) ** 0.5).to(dtype)
    bias = dice.pick([None, dice.normal(outputs).to(dtype)])
    offsets = random_offsets(dice, kind, images, 18, height, width)
    moved = (laid_out(features, layout, device), laid_out(offsets, layout, device), weight.to(device))
    found = deformable.deform_conv2d(*moved, None if bias is None else bias.to(device)).cpu().double()
    exact = references.deform_conv2d(features, offsets, weight, bias)
    allowed = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype] * max(
        1.0, float(exact.abs().max())
    )
    error = float((found - exact).abs().max())
    case = f"{images} x {channels} x {height} x {width} to {outputs}, {kind}, {dtype}, {layout}: off by {error:.1e}"
    yield Check(error <= allowed, case)


def suppression_case(dice: Dice, device: str) -> Iterator[Check]:
    """One of non-maximum suppression: boxes on whole numbers, so that overlaps meet thresholds."""
    from model.kernels import regions

    groups, boxes = dice.pick([1, 2, 3]), dice.pick([1, 2, 31, 32, 33, 64, 65, 97])
    kind, threshold = dice.pick(["spread", "same", "dense", "thin", "grid"]), dice.pick([0.5, 0.7, 0.25])
    corners = (dice.pick([8, 30, 60]) * dice.uniform(groups, boxes, 2)).round()
    sides = (20 * dice.uniform(groups, boxes, 2)).round()
    if kind == "same":
        corners, sides = 0 * corners, 0 * sides + 9
    elif kind == "thin":
        sides = sides - 10  # some end before they start
    elif kind == "grid":
        corners, sides = 10 * (corners / 10).round(), 10 * (sides / 10).round()
    elif kind == "dense":
        corners = (corners / 8).round()
    given = torch.cat([corners, corners + sides], 2).clamp(min=0)
    found, exact = regions.nms(given.to(device), threshold).cpu(), references.nms(given, threshold)
    differ = int((found != exact).sum())
    yield Check(differ == 0, f"{groups} x {boxes}, {kind}, {threshold}: {differ} boxes differ")


def pooling_case(dice: Dice, device: str) -> Iterator[Check]:
    """One of RoIAlign."""
    from model.kernels import regions

    images, channels = dice.pick([1, 2, 3]), dice.pick([1, 16, 17, 96, 130])
    height, width, size = dice.pick([8, 32, 64]), dice.pick([8, 36, 64]), dice.pick([7, 14, 2])
    dtype, layout = dice.pick([torch.float32, torch.float16]), dice.pick(["first", "last", "part"])
    features = [dice.normal(images, channels, height >> k, width >> k).to(dtype) for k in range(4)]
    count = dice.pick([0, 1, 3, 7])
    centre = dice.uniform(count, 2) * torch.tensor([4.0 * width, 4.0 * height])
    half = dice.uniform(count, 2) * dice.pick([0.5, 20.0, 200.0, 2e4])
    rois = torch.cat([dice.whole(images, count)[:, None].float(), centre - half, centre + half], 1)
    levels = dice.whole(4, count)
    maps = [laid_out(level, layout, device) for level in features]
    found = regions.roi_align(maps, rois.to(device), levels.to(device), size).cpu().double()
    exact = references.roi_align(features, rois, levels, size)
    far = float(rois.abs().max()) if count else 0.0  # float32 positions are coarse there
    allowed = (4e-3 if dtype == torch.float16 else 1e-4) + 1e-6 * far
    error = float((found - exact).abs().max()) if count else 0.0
    case = f"{images} x {channels} x {height} x {width}, {count} of {size}, {dtype}, {layout}: off by {error:.1e}"
    yield Check(found.shape == exact.shape and error <= allowed, case)


def random_things(dice: Dice, height: int, width: int, things: int, kind: str) -> Detections:
    """Candidates of a canvas, by descending score."""
    count, canvas = dice.pick([1, 2, 5, 9]), torch.tensor([width - 1.0, height - 1.0])
    corners, sides = dice.uniform(count, 2) * canvas, dice.uniform(count, 2) * 0.7 * canvas
    if kind == "tiny":
        sides = 0.02 * sides - 0.5  # under a pixel; some end before they start
    elif kind == "whole":
        corners, sides = 0 * corners, canvas.expand(count, 2)
    elif kind == "halves":
        corners, sides = corners.round() + 0.5, sides.round()
    boxes = torch.cat([corners, corners + sides], 1).clamp(min=0).minimum(canvas.repeat(2))
    masks = F.interpolate(3 * dice.normal(count, 1, 4, 4), (28, 28), mode="bilinear", align_corners=False)[:, 0]
    classes = 1 + dice.whole(dice.pick([1, min(3, things), things]), count)
    if kind == "nothing":
        boxes, masks, classes = torch.zeros(1, 4), torch.zeros(1, 1, 1).expand(1, 28, 28), torch.zeros(1).long()
    else:
        masks = masks + dice.pick([0.0, 2.0, -4.0])
    return Detections(boxes, torch.ones(len(boxes)), classes, masks, int(classes.bincount().max()))


def panoptic_case(dice: Dice, device: str) -> Iterator[Check]:
    """One of the panoptic head and the removal of masks, for each image of a batch."""
    from model.kernels import panoptic

    height, width = dice.pick([(2, 2), (8, 8), (9, 17), (16, 24)])
    kinds, stuff = dice.pick([(3, 1), (11, 8), (19, 11)])
    wanted = [dice.pick(["plain", "plain", "tiny", "whole", "halves", "nothing"]) for _ in range(dice.pick([1, 3]))]
    found = [random_things(dice, 4 * height, 4 * width, kinds - stuff, kind) for kind in wanted]
    logits = 3 * dice.normal(len(found), kinds, height, width)
    counts = [len(one.boxes) for one in found]
    parts = [
        torch.cat(each).to(device) for each in zip(*((f.boxes, f.mask_logits, f.classes) for f in found), strict=True)
    ]
    most = max(one.max_per_class for one in found)
    maps = laid_out(logits, dice.pick(["first", "last"]), device)
    channels, semantic, order = panoptic.panoptic(maps, *parts, counts, most, stuff, 0.3)
    for i, part in enumerate(order.cpu().split(counts)):
        exact, classes, kept = references.panoptic(logits[i], found[i], stuff, 0.3)
        share = min(
            float((channels[i].cpu() == exact).float().mean()), float((semantic[i].cpu() == classes).float().mean())
        )
        right = part[: len(kept)].tolist() == kept and sorted(part.tolist()) == list(range(counts[i]))
        yield Check(
            right and share >= 0.999, f"{kinds} x {height} x {width}, {wanted[i]}: {100 * share:.2f} % of pixels"
        )


def deformable_convolution(bench: Bench) -> Iterator[Row]:
    """Random cases of the deformable convolution."""
    yield from count(bench, "deformable convolution", deformable_case)


def suppression(bench: Bench) -> Iterator[Row]:
    """Random cases of non-maximum suppression."""
    yield from count(bench, "suppression", suppression_case)


def pooling(bench: Bench) -> Iterator[Row]:
    """Random cases of RoIAlign."""
    yield from count(bench, "RoIAlign", pooling_case)


def panoptic_head(bench: Bench) -> Iterator[Row]:
    """Random cases of the panoptic head."""
    yield from count(bench, "panoptic head", panoptic_case)


PARTS = (deformable_convolution, suppression, pooling, panoptic_head)

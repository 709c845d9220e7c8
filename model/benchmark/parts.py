"""Single parts of the network against their plain forms."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from model.benchmark.timing import Run, alternate, peak_bytes
from model.network.convolution import Convolution
from model.network.panoptic_head import PanopticHead
from model.network.plain import PlainConvolution, PlainPanopticHead
from model.network.structures import Detections
from model.ops import deform_conv2d

STUFF, THINGS = 53, 80
CHANNELS = 256
OVERLAP = 0.3


def random_things(count: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (n, 4), smooth mask logits (n, 28, 28) and classes (n,) of `count` random things, the same each time."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.rand(count, 2, generator=generator) * 0.4 + 0.05
    corner = torch.rand(count, 2, generator=generator) * (1 - sides)
    canvas = torch.tensor([width - 1.0, height - 1.0])
    masks = 3 * torch.randn(count, 1, 5, 5, generator=generator) + 1
    masks = F.interpolate(masks, (28, 28), mode="bilinear", align_corners=False)[:, 0]
    classes = torch.randint(1, THINGS + 1, (count,), generator=generator)
    return torch.cat([corner * canvas, (corner + sides) * canvas], 1), masks, classes


def panoptic_head(height: int, width: int, instances: int, rounds: int, device: str) -> dict[str, Any]:
    """The head against its plain form, on COCO's classes: seconds, memory, ratios, whether the results are equal."""
    generator = torch.Generator().manual_seed(0)
    coarse = 3 * torch.randn(1, STUFF + THINGS, height // 32, width // 32, generator=generator)
    logits = F.interpolate(coarse, scale_factor=8.0, mode="bilinear", align_corners=False)[0].to(device)
    boxes, masks, classes = (tensor.to(device) for tensor in random_things(instances, height, width))
    ours, theirs = PanopticHead(STUFF, OVERLAP), PlainPanopticHead(STUFF, OVERLAP)
    found = Detections(boxes, boxes.new_ones(len(boxes)), classes, masks, int(classes.bincount().max()))
    runs: dict[str, Run] = {
        "ours": lambda: ours(logits[None], [found]),
        "plain": lambda: theirs(logits[None], [found]),
    }
    decision, wanted = runs["ours"](), runs["plain"]()
    kept = len(theirs.decide(logits, found).order)
    equal = all(torch.equal(a, b) for a, b in zip(decision, wanted, strict=True))
    return _compare(runs, rounds, device, {"instances": instances, "kept": kept, "equal": equal})


def deformable(height: int, width: int, channels: int, rounds: int, device: str) -> dict[str, Any]:
    """The deformable convolution against torchvision's and an ordinary one: seconds, memory, largest difference."""
    torch.manual_seed(0)
    features = torch.randn(1, channels, height, width, device=device)
    offsets = 2 * torch.randn(1, 18, height, width, device=device)
    weight = torch.randn(channels, channels, 3, 3, device=device) / (9 * channels) ** 0.5
    runs: dict[str, Run] = {
        "ours": lambda: deform_conv2d(features, offsets, weight, None),
        "plain": lambda: torchvision.ops.deform_conv2d(features, offsets, weight, padding=1),
        "convolution": lambda: F.conv2d(features, weight, padding=1),
    }
    difference = float((runs["ours"]() - runs["plain"]()).abs().max())
    return _compare(runs, rounds, device, {"channels": channels, "max_difference": difference})


def convolution(height: int, width: int, channels: int, rounds: int, device: str) -> dict[str, Any]:
    """The ordinary 3 x 3 convolution against torch's: seconds, memory, largest difference."""
    torch.manual_seed(0)
    features = torch.randn(1, channels, height, width, device=device).contiguous(memory_format=torch.channels_last)
    ours = Convolution(channels, channels, 3).to(device).to(memory_format=torch.channels_last)
    theirs = PlainConvolution(ours)
    runs: dict[str, Run] = {"ours": lambda: ours(features), "plain": lambda: theirs(features)}
    difference = float((runs["ours"]() - runs["plain"]()).abs().max())
    return _compare(runs, rounds, device, {"channels": channels, "max_difference": difference})


def _compare(runs: dict[str, Run], rounds: int, device: str, facts: dict[str, Any]) -> dict[str, Any]:
    memory = {name: peak_bytes(run, device) for name, run in runs.items()}
    times = alternate(runs, rounds, device)
    return {**facts, **times._asdict(), "bytes": memory, **times.ratios("plain")}


PARTS: dict[str, tuple[Callable[[int, int, int, int, str], dict[str, Any]], int]] = {
    "panoptic_head": (panoptic_head, 1),
    "deformable": (deformable, 8),
    "convolution": (convolution, 4),
}
"""Each part by name: what compares it, and the stride of the features that it is compared on."""

"""The panoptic and the semantic head alone; the deformable convolution against torchvision's and against float64."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from model import ops
from model.benchmark import parts
from model.interface.scale import padded_side
from model.network.panoptic_head import PanopticHead
from model.network.plain import PlainDeformableConv, plainly
from model.network.semantic_head import SemanticHead
from model.network.structures import Detections, Pyramid
from tests.gpu.measure import Bench
from tests.gpu.network import opened
from tests.gpu.rows import Row


@torch.inference_mode()
def panoptic_head(bench: Bench) -> Iterator[Row]:
    """The panoptic head on COCO's classes with random things: time and memory of an image, alone and in a batch."""
    height, width = (padded_side(side) for side in bench.size)
    generator = torch.Generator().manual_seed(0)
    coarse = 3 * torch.randn(1, parts.STUFF + parts.THINGS, height // 32, width // 32, generator=generator)
    logits = F.interpolate(coarse, scale_factor=8.0, mode="bilinear", align_corners=False).to(bench.device)
    head = PanopticHead(parts.STUFF, parts.OVERLAP)
    for things in (20, 100):
        boxes, masks, classes = (each.to(bench.device) for each in parts.random_things(things, height, width))
        found = Detections(boxes, boxes.new_ones(things), classes, masks, int(classes.bincount().max()))
        for count in bench.batches():
            batch = logits.expand(count, -1, -1, -1).contiguous()
            yield from one_head(bench, f"panoptic head, {things} things, batch {count}", head, batch, [found] * count)


def one_head(bench: Bench, name: str, head: PanopticHead, batch: Tensor, found: list[Detections]) -> Iterator[Row]:
    """Times and memory of an image of a batch."""

    def run() -> object:
        return head(batch, found)

    count = len(found)
    device, row = bench.replayed(run), bench.queued(run)
    alone = "" if device is None else f"; {1e3 * device / count:.3f} ms of the device alone"
    note = f"an image, in a row; {1e3 * bench.wall(run) / count:.3f} ms by the clock{alone}"
    yield Row(name, 1e3 * row / count, "ms", note)
    yield Row(f"{name}, memory", bench.peak(run) / count / 1e6, "MB", "an image")


class TorchvisionConv(nn.Module):
    """A deformable convolution by torchvision's operator in the type of the features, positions included."""

    def __init__(self, plain: PlainDeformableConv) -> None:
        super().__init__()
        self.conv = plain.conv

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        conv = self.conv
        offsets = conv.offset(features).clamp(-conv.offset_limit, conv.offset_limit)
        found: Tensor = torchvision.ops.deform_conv2d(features, offsets, conv.weight, conv.bias, padding=(1, 1))
        return found


def with_torchvision(head: SemanticHead) -> SemanticHead:
    """Exchange the plain deformable convolutions of a head, which compute in float32, in place."""
    for module in list(head.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PlainDeformableConv):
                setattr(module, name, TorchvisionConv(child))
    return head


@torch.inference_mode()
def semantic_head(bench: Bench) -> Iterator[Row]:
    """The semantic head, and the same with torchvision's operator in both precisions."""
    network, images, _ = opened(bench)
    one = network.features(network.transform(images[:1]).pixels)
    heads = {
        "ours": network.semantic_head,
        "torchvision half": with_torchvision(plainly(network).semantic_head),
        "torchvision float": plainly(network).semantic_head,
    }
    for count in bench.batches():
        repeated = (each.repeat(count, 1, 1, 1).contiguous(memory_format=torch.channels_last) for each in one)
        pyramid = Pyramid(*repeated)
        times = {name: bench.queued(lambda: head(pyramid), 10) for name, head in heads.items()}  # noqa: B023
        yield Row(f"semantic head, batch {count}", 1e3 * times["ours"] / count, "ms", "an image, in a row")
        if (device := bench.replayed(lambda: heads["ours"](pyramid))) is not None:  # noqa: B023
            yield Row(f"semantic head, batch {count}, device alone", 1e3 * device / count, "ms", "an image")
        for name in ("torchvision half", "torchvision float"):
            yield Row(f"semantic head, batch {count}, {name} / ours", times[name] / times["ours"], "x")


@torch.inference_mode()
def convolution_error(bench: Bench) -> Iterator[Row]:
    """Relative error of the deformable convolution against float64, at the width of a whole picture."""
    generator = torch.Generator().manual_seed(1)
    height, width, channels = (6, 40, 16) if bench.dry else (24, 336, 256)
    features = torch.randn(1, channels, height, width, generator=generator).half().float()  # the same for every type
    weight = (torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5).half().float()
    offsets = 2 * torch.randn(1, 18, height, width, generator=generator)
    exact = torchvision.ops.deform_conv2d(features.double(), offsets.double(), weight.double(), padding=1)

    def error(found: Tensor) -> float:
        return float((found.cpu().double() - exact).norm() / exact.norm())

    x, moves, w = (each.to(bench.device) for each in (features, offsets, weight))
    theirs = error(torchvision.ops.deform_conv2d(x, moves, w, padding=1))
    yield Row("deformable convolution, error of torchvision's in float32", theirs)
    types = (torch.float32,) if bench.dry else (torch.float32, torch.float16, torch.bfloat16)
    for dtype in types:
        ours = error(ops.deform_conv2d(x.to(dtype), moves, w.to(dtype), None))
        yield Row(f"deformable convolution, error of ours in {str(dtype).removeprefix('torch.')}", ours)
        if dtype == torch.float32:
            yield Row("deformable convolution, error / torchvision's in float32", ours / theirs, "x")
    if not bench.dry:
        half = torchvision.ops.deform_conv2d(x.half(), moves.half(), w.half(), padding=1)
        yield Row("deformable convolution, error of torchvision's in float16", error(half))


PARTS = (panoptic_head, semantic_head, convolution_error)

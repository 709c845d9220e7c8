"""Other networks to compare with, each with a ResNet-50 and random weights."""

import importlib.util
import sys
import warnings
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from model.benchmark.parts import STUFF, THINGS
from model.benchmark.timing import Run
from model.command import CommandError

OPENVINO = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""What OpenVINO calls the types that it computes in."""


def peer_runs(size: tuple[int, int], count: int, device: str, dtype: torch.dtype) -> dict[str, Run]:
    """What runs each on `count` images, without making maps of the output; by name.

    Where OpenVINO is installed, a CPU also runs torchvision's network through it, as one who serves it on a CPU would.

    Raises:
        CommandError: transformers is not installed.
    """
    mask2former = _mask2former().to(device)
    mask_rcnn = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=min(size), max_size=max(size)
    )
    mask_rcnn = mask_rcnn.eval().to(device)
    images = torch.rand(count, 3, *size, device=device)
    padded = F.pad(images, [0, -size[1] % 32, 0, -size[0] % 32])
    runs = {
        "torchvision maskrcnn_resnet50_fpn": in_precision(lambda: mask_rcnn(list(images)), device, dtype),
        "transformers Mask2Former-R50": in_precision(lambda: mask2former(pixel_values=padded), device, dtype),
    }
    if device == "cpu" and importlib.util.find_spec("openvino"):
        runs["torchvision maskrcnn_resnet50_fpn through OpenVINO"] = through_openvino(mask_rcnn, images, dtype)
    return runs


def _mask2former() -> nn.Module:
    try:
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig
    except ImportError as error:
        raise CommandError(
            "--against peers needs transformers and scipy, which are not both installed. Run `uv run "
            "--with transformers --with scipy --with openvino python -m model.benchmark ...`, or leave peers out."
        ) from error
    stages = ["stage1", "stage2", "stage3", "stage4"]
    config = Mask2FormerConfig(
        backbone_config=ResNetConfig(out_features=stages), num_labels=STUFF + THINGS, use_pretrained_backbone=False
    )
    return Mask2FormerForUniversalSegmentation(config).eval()  # type: ignore[no-any-return]


class Flat(nn.Module):
    """A detector of torchvision as a function of one tensor: (1, 3, H, W) -> boxes, labels, scores, masks."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What it finds in the image."""
        (found,) = self.detector(list(images))
        return found["boxes"], found["labels"], found["scores"], found["masks"]


def through_openvino(detector: nn.Module, images: Tensor, dtype: torch.dtype) -> Run:
    """A detector of torchvision compiled by OpenVINO, with as many threads as torch has, image by image."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would tell its makers of each run
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: sizes become constants, and all images here have one size
        converted = openvino.convert_model(Flat(detector), example_input=images[:1])
    wanted = {"INFERENCE_PRECISION_HINT": OPENVINO[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(converted, "CPU", wanted)
    pictures = [image[None].numpy() for image in images]
    return lambda: [compiled(picture) for picture in pictures]


def in_precision(run: Run, device: str, dtype: torch.dtype) -> Run:
    """The same run with its convolutions and products in `dtype`."""
    if dtype == torch.float32:
        return run

    def cast() -> Any:
        with torch.autocast(torch.device(device).type, dtype):
            return run()

    return cast

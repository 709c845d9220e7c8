"""Recipes: every number of a training run, one function for each run that we name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        configuration: builder of the network.
        steps: optimiser steps.
        learning_rate: for `processes` times `batch` images a step.
        processes: the learning rate and the steps are stated for this many.
        batch: images of one process and step.
        optimizer: `sgd`, caffe style (quirk Q26), or `adamw`.
        weight_decay: of weights, not of biases and norms.
        warmup_steps: the rate rises linearly over these, from a tenth.
        milestones: the rate falls to a tenth at each; none: cosine to zero over the run.
        offset_rate: factor of the learning rate of offset convolutions.
        short_sides: training scales, one drawn for each image.
        long_side: cap of the long side.
        crop: height and width of random crops; None trains on whole images.
        zoom: range of the random scale of crops.
        color_jitter: relative range of brightness, contrast and saturation of crops.
        rois: regions sampled in an image for the box head.
        pre_nms: see `propose`.
        post_nms: see `propose`.
        loss_weights: factor of each loss; a loss without one counts once.
        roi_semantic: whether the semantic head is trained on regions too.
        class_weight_power: semantic classes weigh (median frequency / frequency) to this power.
        average_decay: decay of the averaged weights that are evaluated and kept; 0 keeps the last ones.
        freeze_stem: conv1 and C2 stay as they were initialised.
        bfloat16: convolutions of backbone, pyramid and dense heads compute in bfloat16.
        crowd_proposals: proposals on a crowd count as its class, as published (quirk Q19).
    """

    configuration: str
    steps: int
    learning_rate: float = 0.02
    processes: int = 16
    batch: int = 1
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    warmup_steps: int = 1500
    milestones: tuple[int, ...] = ()
    offset_rate: float = 1.0
    short_sides: tuple[int, ...] = (800,)
    long_side: int = 1333
    crop: tuple[int, int] | None = None
    zoom: tuple[float, float] = (1.0, 1.0)
    color_jitter: float = 0.0
    rois: int = 512
    pre_nms: int = 2000
    post_nms: int = 2000
    loss_weights: dict[str, float] = field(default_factory=dict)
    roi_semantic: bool = False
    class_weight_power: float = 0.0
    average_decay: float = 0.0
    freeze_stem: bool = True
    bfloat16: bool = False
    crowd_proposals: bool = True

    def for_processes(self, processes: int) -> "Recipe":
        """The same run on another number of processes: rate and steps scale as published (16 GPUs .02, 4 GPUs .005)."""
        factor = self.processes / processes
        return replace(
            self,
            processes=processes,
            learning_rate=self.learning_rate / factor,
            steps=round(self.steps * factor),
            milestones=tuple(round(step * factor) for step in self.milestones),
        )


def coco_r50() -> Recipe:
    """UPSNet-50 on COCO."""
    weights = {"semantic": 0.2, "roi_semantic": 0.04, "panoptic": 0.1}
    return Recipe("coco_r50", 90_000, milestones=(60_000, 80_000), loss_weights=weights, roi_semantic=True)


def coco_r101_dcn() -> Recipe:
    """UPSNet-101 with deformable C3..C5 on COCO, three times as long and at seven scales."""
    scales = (640, 672, 704, 736, 768, 800, 832)
    base = coco_r50()
    return replace(
        base, configuration="coco_r101_dcn", steps=270_000, milestones=(210_000, 250_000), short_sides=scales
    )


def cityscapes_r50() -> Recipe:
    """UPSNet-50 on Cityscapes."""
    return Recipe(
        "cityscapes_r50",
        12_000,
        milestones=(9_000,),
        short_sides=tuple(range(800, 1025, 32)),
        long_side=2048,
        loss_weights={"semantic": 1.0, "panoptic": 0.5},
    )


def cityscapes_r101_w_coco() -> Recipe:
    """UPSNet-101 on Cityscapes from COCO weights (`--init-from`)."""
    base = cityscapes_r50()
    return replace(base, configuration="cityscapes_r101_w_coco", steps=3_000, milestones=(2_000,), warmup_steps=0)


def camvid_demo() -> Recipe:
    """The demo: from scratch on a few hundred small photos, on whatever is at hand."""
    return Recipe(
        "camvid_demo",
        6_000,
        learning_rate=8e-4,
        processes=1,
        batch=4,
        optimizer="adamw",
        weight_decay=0.02,
        warmup_steps=100,
        offset_rate=0.1,
        short_sides=(360,),
        long_side=640,
        crop=(352, 448),
        zoom=(0.9, 2.2),
        color_jitter=0.3,
        rois=64,
        pre_nms=300,
        post_nms=200,
        loss_weights={"semantic": 1.0, "panoptic": 0.5},
        class_weight_power=0.4,
        average_decay=0.995,
        freeze_stem=False,
        bfloat16=True,
        crowd_proposals=False,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "coco_r50": coco_r50,
    "coco_r101_dcn": coco_r101_dcn,
    "cityscapes_r50": cityscapes_r50,
    "cityscapes_r101_w_coco": cityscapes_r101_w_coco,
    "camvid_demo": camvid_demo,
}

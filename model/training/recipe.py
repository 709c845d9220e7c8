"""Recipes: every number of a training run, one function for each named run."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        configuration: name of the network's builder.
        steps: optimiser steps of the whole run.
        minutes: wall-clock time that ends the run before its steps do; None sets no limit.
        learning_rate: peak rate, for `processes` times `batch` images a step.
        processes: number of processes that the rate and the steps are stated for.
        batch: images that one process takes in a step.
        optimizer: `sgd` as in Caffe (quirk Q26), or `adamw`.
        weight_decay: decay of weights; biases and norms have none.
        warmup_steps: steps over which the rate rises linearly from a tenth.
        milestones: steps at which the rate falls to a tenth; without any it falls to zero over the run, as a cosine.
        offset_rate: factor on the learning rate of offset convolutions.
        short_sides: lengths of the short side in pixels, one drawn for each image.
        long_side: largest length of the long side, pixels.
        crop: height and width of random crops; None trains on whole images.
        zoom: range of the random scale of crops.
        color_jitter: relative range of brightness, contrast and saturation of crops.
        rois: regions of an image that the box head is trained on.
        pre_nms: best proposals of each level that enter suppression.
        post_nms: proposals of an image that remain after it.
        loss_weights: factor of each loss by name; 1 where none is given.
        roi_semantic: whether the semantic head is trained on the boxes of objects too.
        class_weight_power: semantic classes weigh (median frequency / frequency) to this power; 0 weighs all alike.
        average_decay: decay of the averaged weights, which are evaluated and kept; 0 keeps the last ones.
        freeze_stem: whether conv1 and C2 keep the weights that the run starts from.
        bfloat16: whether convolutions of backbone, pyramid and dense heads compute in bfloat16.
        crowd_proposals: whether proposals on a crowd count as its class, as published (quirk Q19).
    """

    configuration: str
    steps: int
    minutes: float | None = None
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
        """The run on another number of processes: its rate grows with them (.005 for 4, .02 for 16), its steps fall."""
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
    """UPSNet-101 with deformable C3..C5 on COCO: three times the steps, and seven scales."""
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
    """The demo network, from scratch on a few hundred small photos; a CPU will do."""
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

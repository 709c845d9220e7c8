"""One builder for each configuration of UPSNet: the published ones (Xiong et al. 2019) and the demo's."""

from collections.abc import Callable
from functools import partial

from torch import nn

from model.interface.channels import MOST_INSTANCES, room_for_instances
from model.network.anchors import Anchors
from model.network.backbone import FeaturePyramid, FrozenNorm, ResNet
from model.network.images import ImageTransform
from model.network.instance_head import BoxHead, Candidates, MaskHead
from model.network.panoptic_head import PanopticHead
from model.network.rpn import RegionProposalNetwork
from model.network.segments import Segments
from model.network.semantic_head import SemanticHead
from model.network.upsnet import UPSNet

RGB_MEAN = [122.7717, 115.9465, 102.9801]
NO_STD = [1.0, 1.0, 1.0]  # the published networks divide by nothing
STRIDES = [4, 8, 16, 32, 64]
RATIOS = [0.5, 1.0, 2.0]


def published(
    transform: ImageTransform,
    backbone: nn.Module,
    context: bool,
    semantic_widths: list[int],
    stuff: int,
    things: int,
    stuff_area_limit: int,
) -> UPSNet:
    """A network with the numbers that the four published configurations share (Xiong et al. 2019, section 4)."""
    width, regions = 256, things + 1
    return UPSNet(
        transform=transform,
        backbone=backbone,
        pyramid=FeaturePyramid(channels=[256, 512, 1024, 2048], width=width, context=context),
        rpn=RegionProposalNetwork(
            width=width,
            anchors=Anchors(STRIDES, scale=8, ratios=RATIOS),
            pre_nms=1000,
            post_nms=1000,
            nms_threshold=0.7,
        ),
        box_head=BoxHead(in_channels=width, side=7, width=1024, classes=regions),
        mask_head=MaskHead(in_channels=width, side=14, width=256, depth=4, classes=regions),
        candidates=candidates(panoptic_threshold=0.6, stuff=stuff),
        semantic_head=SemanticHead(widths=semantic_widths, classes=stuff + things),
        panoptic_head=PanopticHead(stuff=stuff, overlap=0.3),
        segments=Segments(stuff=stuff, stuff_area_limit=stuff_area_limit),
        canonical_side=224.0,
    )


def candidates(panoptic_threshold: float, stuff: int) -> Candidates:
    """The choice of detections that all configurations share; fewer where stuff leaves the map less room."""
    room = room_for_instances(stuff)
    return Candidates(
        score_threshold=0.05,
        panoptic_threshold=panoptic_threshold,
        nms_threshold=0.5,
        limit=min(MOST_INSTANCES, room),
        room=room,
    )


def on_coco(backbone: nn.Module, stuff: int, things: int, short_side: int, long_side: int) -> UPSNet:
    """A network as published for COCO."""
    return published(
        transform=ImageTransform(mean=RGB_MEAN, std=NO_STD, short_side=short_side, long_side=long_side),
        backbone=backbone,
        context=True,
        semantic_widths=[256, 256, 128, 128],
        stuff=stuff,
        things=things,
        stuff_area_limit=4096,
    )


def on_cityscapes(backbone: nn.Module, stuff: int, things: int, short_side: int, long_side: int) -> UPSNet:
    """A network as published for Cityscapes."""
    return published(
        transform=ImageTransform(mean=RGB_MEAN, std=NO_STD, short_side=short_side, long_side=long_side),
        backbone=backbone,
        context=False,
        semantic_widths=[256, 128, 128],
        stuff=stuff,
        things=things,
        stuff_area_limit=2048,
    )


def coco_r50(stuff: int = 53, things: int = 80, short_side: int = 800, long_side: int = 1333) -> UPSNet:
    """UPSNet-50 on COCO: PQ 42.5 on val2017."""
    backbone = ResNet(blocks=(3, 4, 6, 3), norm=FrozenNorm)
    return on_coco(backbone, stuff=stuff, things=things, short_side=short_side, long_side=long_side)


def coco_r101_dcn(stuff: int = 53, things: int = 80, short_side: int = 800, long_side: int = 1333) -> UPSNet:
    """UPSNet-101 with deformable C3..C5 on COCO: PQ 46.6 on test-dev. Its test scale is fixed (quirk Q1 not kept)."""
    backbone = ResNet(blocks=(3, 4, 23, 3), norm=FrozenNorm, deformable_from=3)
    return on_coco(backbone, stuff=stuff, things=things, short_side=short_side, long_side=long_side)


def cityscapes_r50(stuff: int = 11, things: int = 8, short_side: int = 1024, long_side: int = 2048) -> UPSNet:
    """UPSNet-50 on Cityscapes: PQ 59.3 on val."""
    backbone = ResNet(blocks=(3, 4, 6, 3), norm=FrozenNorm)
    return on_cityscapes(backbone, stuff=stuff, things=things, short_side=short_side, long_side=long_side)


def cityscapes_r101_w_coco(stuff: int = 11, things: int = 8, short_side: int = 1024, long_side: int = 2048) -> UPSNet:
    """UPSNet-101 on Cityscapes from COCO weights: PQ 61.8 on val with multi-scale testing."""
    backbone = ResNet(blocks=(3, 4, 23, 3), norm=FrozenNorm)
    return on_cityscapes(backbone, stuff=stuff, things=things, short_side=short_side, long_side=long_side)


def camvid_demo(stuff: int = 8, things: int = 3, short_side: int = 360, long_side: int = 640) -> UPSNet:
    """A small UPSNet for 480 x 360 street photos, trainable from scratch.

    Norms are group norms (Wu & He 2018), offsets are bounded. Anchors are half the published size and pooling takes
    finer levels: two thirds of CamVid's things are below 32 x 32 pixels. A stuff limit of 256 keeps poles and signs.
    """
    width, regions = 96, things + 1
    norm = partial(nn.GroupNorm, 16)
    return UPSNet(
        transform=ImageTransform(mean=RGB_MEAN, std=[58.0, 57.0, 57.0], short_side=short_side, long_side=long_side),
        backbone=ResNet(blocks=(2, 2, 3, 2), norm=norm, width=32, deformable_from=5, offset_limit=8.0),
        pyramid=FeaturePyramid(channels=[128, 256, 512, 1024], width=width, context=True, norm=norm),
        rpn=RegionProposalNetwork(
            width=width,
            anchors=Anchors(STRIDES, scale=4, ratios=RATIOS),
            pre_nms=500,
            post_nms=300,
            nms_threshold=0.7,
            norm=norm,
        ),
        box_head=BoxHead(in_channels=width, side=7, width=256, classes=regions, norm=norm),
        mask_head=MaskHead(in_channels=width, side=14, width=96, depth=2, classes=regions, norm=norm),
        candidates=candidates(panoptic_threshold=0.5, stuff=stuff),
        semantic_head=SemanticHead(widths=[width, width, 64], classes=stuff + things, norm=norm, offset_limit=8.0),
        panoptic_head=PanopticHead(stuff=stuff, overlap=0.3),
        segments=Segments(stuff=stuff, stuff_area_limit=256),
        canonical_side=112.0,
    )


CONFIGURATIONS: dict[str, Callable[..., UPSNet]] = {
    "coco_r50": coco_r50,
    "coco_r101_dcn": coco_r101_dcn,
    "cityscapes_r50": cityscapes_r50,
    "cityscapes_r101_w_coco": cityscapes_r101_w_coco,
    "camvid_demo": camvid_demo,
}

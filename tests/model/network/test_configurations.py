"""The numbers of each configuration."""

import pytest
import torch

from model.network.configurations import CONFIGURATIONS


@pytest.mark.parametrize(
    ("name", "classes", "regions", "blocks", "scale"),
    [
        ("coco_r50", 133, 81, 6, (800, 1333)),
        ("coco_r101_dcn", 133, 81, 23, (800, 1333)),
        ("cityscapes_r50", 19, 9, 6, (1024, 2048)),
        ("cityscapes_r101_w_coco", 19, 9, 23, (1024, 2048)),
        ("camvid_demo", 11, 4, 3, (360, 640)),
    ],
)
def test_each_configuration_has_its_published_numbers(
    name: str, classes: int, regions: int, blocks: int, scale: tuple[int, int]
) -> None:
    with torch.device("meta"):  # no weights are made
        network = CONFIGURATIONS[name]()
    assert network.semantic_head.logits.out_channels == classes
    assert network.box_head.logits.out_features == network.mask_head.logits.out_channels == regions
    assert network.panoptic_head.stuff == network.segments.stuff == classes - regions + 1
    assert len(network.backbone.c4) == blocks
    assert (network.transform.short_side, network.transform.long_side) == scale


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize(("stuff", "limit"), [(1, 100), (155, 100), (156, 99), (254, 1)])
def test_stuff_leaves_the_map_room_for_so_many_instances(name: str, stuff: int, limit: int) -> None:
    with torch.device("meta"):
        candidates = CONFIGURATIONS[name](stuff=stuff, things=1).candidates
    assert (candidates.limit, candidates.room) == (limit, 255 - stuff)

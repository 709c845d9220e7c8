"""Published checkpoints: every key has its place, and nothing is written where one has not."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import CheckpointError
from model.convert import DATASETS, convert_weights, our_name
from tests.model.typed import typed


def test_a_dataset_is_the_start_of_a_published_configurations_name() -> None:
    assert DATASETS == {
        "coco_r50": "coco",
        "coco_r101_dcn": "coco",
        "cityscapes_r50": "cityscapes",
        "cityscapes_r101_w_coco": "cityscapes",
    }


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("resnet_backbone.conv1.conv1.weight", "backbone.stem.conv.weight"),
        ("resnet_backbone.res3.layers.2.conv2_offset.bias", "backbone.c3.2.conv2.offset.bias"),
        ("resnet_backbone.res5.layers.0.downsample.1.running_var", "backbone.c5.0.shortcut.norm.running_var"),
        ("mask_branch.mask_conv3.0.weight", "mask_head.layers.6.weight"),
        ("fcn_head.fcn_subnet.conv.1.0.conv_offset.weight", "semantic_head.layers.3.offset.weight"),
        ("head.weight", None),
    ],
)
def test_a_published_key_has_our_name(published: str, ours: str | None) -> None:
    assert our_name(published) == ours


def test_conversion_lists_every_fault_and_writes_nothing() -> None:
    weights = {"module.fpn.fpn_p2.weight": torch.zeros(1), "head.extra": torch.zeros(2)}
    with pytest.raises(CheckpointError) as error:
        convert_weights(weights, "coco_r50")
    text = str(error.value)
    assert "extra head.extra (2,)" in text
    assert "misshapen fpn.fpn_p2.weight: (1,), expected (256, 256, 3, 3)" in text
    assert "missing semantic_head.logits.weight (133, 512, 1, 1)" in text


def test_a_file_that_does_not_fit_ends_with_1_and_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"head.extra": torch.zeros(2)}, tmp_path / "official.pth")
    words = [str(tmp_path / "official.pth"), "--config", "coco_r50", "--out", str(tmp_path / "ours.safetensors")]
    assert typed("model.convert", *words) == 1
    assert "error: The file does not fit coco_r50; nothing was written.\n  extra head.extra" in capsys.readouterr().err
    assert not (tmp_path / "ours.safetensors").exists()


@pytest.mark.parametrize(("config", "status"), [("coco_r50", 1), ("camvid_demo", 2)])
def test_a_missing_file_and_an_unpublished_configuration_are_refused(
    tmp_path: Path, config: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("model.convert", str(tmp_path / "no.pth"), "--config", config, "--out", "a") == status
    assert ("no.pth is not a file" if status == 1 else "invalid choice: 'camvid_demo'") in capsys.readouterr().err

"""Published checkpoints: every key has its place, and nothing is written where one has not."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from model.checkpoint import CheckpointError
from model.convert import DATASETS, convert_weights, our_name
from model.network.configurations import CONFIGURATIONS
from tests.model.typed import typed
from tests.paths import DEMO, ROOT


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


def test_conversion_counts_the_faults_and_names_the_first() -> None:
    weights = {"module.fpn.fpn_p2.weight": torch.zeros(1), "head.extra": torch.zeros(2)}
    with pytest.raises(CheckpointError) as error:
        convert_weights(weights, "coco_r50")
    text = str(error.value)
    assert re.search(
        r"does not fit coco_r50, nothing was written: \d+ missing: backbone\.stem\.conv\.weight \(64, ", text
    )
    assert "; 1 extra: head.extra (2,)" in text
    assert "; 1 misshapen: fpn.fpn_p2.weight (1,), expected (256, 256, 3, 3)" in text
    assert len(text) < 500


def official(config: str) -> dict[str, torch.Tensor]:
    """Weights of a configuration by published names: our names, read backwards."""
    with torch.device("meta"):
        wanted = CONFIGURATIONS[config]().state_dict()
    starts = {ours: published for published, ours in published_starts().items()}
    found = {}
    for name, tensor in wanted.items():
        start = max((start for start in starts if name.startswith(start)), key=len)
        found[f"module.{starts[start]}{name.removeprefix(start)}"] = torch.zeros((), dtype=torch.float32).expand(
            tensor.shape
        )
    return found


def published_starts() -> dict[str, str]:
    """Starts of published names -> starts of ours."""
    blocks = [f"res{s}.layers.{n}" for s in range(2, 6) for n in range(23)]
    starts = ["resnet_backbone.conv1.conv1.", "resnet_backbone.conv1.bn1.", "fpn.fpn_gap.", "rpn.conv_proposal.0."]
    starts += [f"resnet_backbone.{b}.{p}{n}." for b in blocks for p in ("conv", "bn") for n in (1, 2, 3)]
    starts += [f"resnet_backbone.{b}.{p}." for b in blocks for p in ("conv2_offset", "downsample.0", "downsample.1")]
    starts += [f"fpn.fpn_p{n}{p}." for n in range(2, 6) for p in ("_1x1", "")]
    starts += [f"{part}.{head}." for part in ("rpn", "rcnn") for head in ("cls_score", "bbox_pred")]
    starts += [
        "rcnn.fc6.0.",
        "rcnn.fc7.0.",
        "mask_branch.mask_deconv1.0.",
        "mask_branch.mask_score.",
        "fcn_head.score.",
    ]
    starts += [f"mask_branch.mask_conv{n}.0." for n in range(1, 5)]
    starts += [f"fcn_head.fcn_subnet.conv.{n}.0.{p}." for n in range(4) for p in ("conv_offset", "conv")]
    return {start: name for start in starts if (name := our_name(start))}


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refusal that is no bad usage."""
    assert typed("model.convert", *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("config", DATASETS)
def test_a_file_of_another_configuration_is_told(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "cityscapes_r50" if config == "coco_r50" else "coco_r50"
    torch.save(official(config), tmp_path / "official.pth")
    line = said(
        [str(tmp_path / "official.pth"), "--config", other, "--out", str(tmp_path / "ours.safetensors")], capsys
    )
    assert line.endswith(f"It fits {config}: give --config {config}.")
    assert len(line) < 1000
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_file_that_does_not_fit_ends_with_1_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path / "official.pth"), "--config", "coco_r50", "--out", str(tmp_path / "ours.safetensors")]
    for key, part in (
        ("head.extra", "None of its names is one of a published UPSNet."),
        (7, "None of its names is one of a published UPSNet."),
        ("backbone.stem.conv.weight", "It has the names of this project already."),
    ):
        torch.save({key: torch.zeros(2)}, tmp_path / "official.pth")
        line = said(words, capsys)
        assert line.startswith(f"error: {words[0]} does not fit coco_r50, nothing was written: ")
        assert line.endswith(part)
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_resnet_an_archive_and_a_page_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "official.pth"
    words = [str(path), "--config", "coco_r50", "--out", str(tmp_path / "ours.safetensors")]
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    assert "It holds a ResNet: begin a training with `--backbone torchvision:FILE`" in said(words, capsys)
    path.write_bytes(DEMO.read_bytes())
    assert "is not a published checkpoint. It is an archive of this project already" in said(words, capsys)
    path.write_bytes(b"<!DOCTYPE html><html>")
    assert "is not a published checkpoint. It is a web page" in said(words, capsys)


def test_tensors_that_are_no_plain_numbers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "official.pth"
    words = [str(path), "--config", "coco_r50", "--out", str(tmp_path / "ours.safetensors")]
    weight = torch.zeros(64, 3, 7, 7)
    for tensor, kind in (
        (weight.to_sparse(), "float32"),
        (weight.to("meta"), "float32"),
        (weight.to(torch.complex64), "complex64"),
        (weight.to(torch.int8), "int8"),
    ):
        torch.save(official("coco_r50") | {"module.resnet_backbone.conv1.conv1.weight": tensor}, path)
        line = said(words, capsys)
        assert line.endswith(f": 1 no plain numbers: resnet_backbone.conv1.conv1.weight {kind}.")
    torch.save({"k" * 5000: torch.zeros(2)}, path)
    assert len(said(words, capsys)) < 1000


def test_torch_adds_no_line_to_a_refusal(tmp_path: Path) -> None:
    """It warns of an archive and of a pickle in another protocol; here warnings are printed, as a user sees them."""
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"a": 1}))
    for path in (DEMO, tmp_path / "pickle.pth"):
        words = [str(path), "--config", "coco_r50", "--out", str(tmp_path / "ours.safetensors")]
        done = subprocess.run(
            [sys.executable, "-m", "model.convert", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {path} is not a published checkpoint. ")


def test_the_output_is_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the file is read, which is not there."""
    (tmp_path / "folder").mkdir()
    words = [str(tmp_path / "no.pth"), "--config", "coco_r50", "--out"]
    assert "folder is a folder: name a file in it" in said([*words, str(tmp_path / "folder")], capsys)
    assert "cannot be written" in said([*words, "/proc/ours.safetensors"], capsys)
    assert "no.pth is not a file" in said([*words, str(tmp_path / "new/ours.safetensors")], capsys)
    (tmp_path / "in").write_bytes(b"weights")
    words[0] = str(tmp_path / "in")
    assert "in is read by this command too" in said([*words, str(tmp_path / "in")], capsys)
    assert typed("model.convert", *words, str(tmp_path / "in.pth")) == 2
    assert "a checkpoint of this project is a .safetensors file" in capsys.readouterr().err
    assert (tmp_path / "in").read_bytes() == b"weights"


@pytest.mark.parametrize(("config", "status"), [("coco_r50", 1), ("camvid_demo", 2)])
def test_a_missing_file_and_an_unpublished_configuration_are_refused(
    tmp_path: Path, config: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "no.pth"), "--config", config, "--out", str(tmp_path / "a")]
    assert typed("model.convert", *words) == status
    assert ("no.pth is not a file" if status == 1 else "invalid choice: 'camvid_demo'") in capsys.readouterr().err

"""`python -m model.convert`: a published UPSNet checkpoint becomes one of ours.

    uv run python -m model.convert upsnet_resnet_50_coco_90000.pth --config coco_r50 --out coco_r50.safetensors

Strict: a missing, extra or misshapen key is listed and nothing is written. The published network reads BGR, ours RGB:
the input channels of the first convolution are swapped here, once.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from model import archive
from model.checkpoint import Checkpoint, CheckpointError, read_published
from model.command import new_parser, run
from model.interface import categories
from model.network.configurations import CONFIGURATIONS

DATASETS = {name: dataset for name in CONFIGURATIONS if (dataset := name.split("_")[0]) in ("coco", "cityscapes")}
"""Dataset of each configuration that has published checkpoints; its name begins with it."""

NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"resnet_backbone\.conv1\.conv1\.", r"backbone.stem.conv."),
    (r"resnet_backbone\.conv1\.bn1\.", r"backbone.stem.norm."),
    (r"resnet_backbone\.res(\d)\.layers\.(\d+)\.conv2_offset\.", r"backbone.c\1.\2.conv2.offset."),
    (r"resnet_backbone\.res(\d)\.layers\.(\d+)\.conv(\d)\.", r"backbone.c\1.\2.conv\3."),
    (r"resnet_backbone\.res(\d)\.layers\.(\d+)\.bn(\d)\.", r"backbone.c\1.\2.norm\3."),
    (r"resnet_backbone\.res(\d)\.layers\.(\d+)\.downsample\.0\.", r"backbone.c\1.\2.shortcut.conv."),
    (r"resnet_backbone\.res(\d)\.layers\.(\d+)\.downsample\.1\.", r"backbone.c\1.\2.shortcut.norm."),
    (r"fpn\.fpn_gap\.", r"pyramid.context.linear."),
    (r"fpn\.fpn_p(\d)_1x1\.", r"pyramid.lateral\1.0."),
    (r"fpn\.fpn_p(\d)\.", r"pyramid.output\1.0."),
    (r"rpn\.conv_proposal\.0\.", r"rpn.conv."),
    (r"rpn\.cls_score\.", r"rpn.logits."),
    (r"rpn\.bbox_pred\.", r"rpn.deltas."),
    (r"rcnn\.fc6\.0\.", r"box_head.fc1."),
    (r"rcnn\.fc7\.0\.", r"box_head.fc2."),
    (r"rcnn\.cls_score\.", r"box_head.logits."),
    (r"rcnn\.bbox_pred\.", r"box_head.deltas."),
    (r"mask_branch\.mask_conv(\d)\.0\.", lambda m: f"mask_head.layers.{3 * int(m[1]) - 3}."),
    (r"mask_branch\.mask_deconv1\.0\.", r"mask_head.upsample."),
    (r"mask_branch\.mask_score\.", r"mask_head.logits."),
    (r"fcn_head\.fcn_subnet\.conv\.(\d)\.0\.conv_offset\.", lambda m: f"semantic_head.layers.{3 * int(m[1])}.offset."),
    (r"fcn_head\.fcn_subnet\.conv\.(\d)\.0\.conv\.", lambda m: f"semantic_head.layers.{3 * int(m[1])}."),
    (r"fcn_head\.score\.", r"semantic_head.logits."),
]
"""Start of a published name -> start of ours. The first that matches counts; the rest (weight, bias, ...) stays."""


def our_name(published: str) -> str | None:
    """Our name of a published key; None where no rule matches."""
    for pattern, ours in NAMES:
        name, found = re.subn(f"^{pattern}", ours, published)
        if found:
            return name
    return None


def convert_weights(published: dict[str, Tensor], config: str) -> dict[str, Tensor]:
    """Weights under our names, checked against the configuration.

    Args:
        published: key -> tensor; a leading `module.` is stripped, `num_batches_tracked` counters are dropped.
        config: the configuration that the file was trained with, one of `DATASETS`.

    Raises:
        CheckpointError: keys are missing, unknown or misshapen; all are listed.
    """
    with torch.device("meta"):
        wanted = CONFIGURATIONS[config]().state_dict()
    converted: dict[str, Tensor] = {}
    faults = []
    for key, tensor in published.items():
        key = key.removeprefix("module.")
        if key.endswith("num_batches_tracked"):
            continue
        name = our_name(key)
        if name is None or name not in wanted:
            faults.append(f"extra {key} {tuple(tensor.shape)}")
        elif tensor.shape != wanted[name].shape:
            faults.append(f"misshapen {key}: {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}")
        else:
            converted[name] = tensor.float().contiguous()
    known = {name for key in published if (name := our_name(key.removeprefix("module.")))}
    faults += [f"missing {name} {tuple(tensor.shape)}" for name, tensor in wanted.items() if name not in known]
    if faults:
        raise CheckpointError(f"The file does not fit {config}; nothing was written.\n  " + "\n  ".join(faults))
    stem = "backbone.stem.conv.weight"
    converted[stem] = converted[stem].flip(1).contiguous()  # BGR -> RGB
    return converted


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = new_parser(__doc__)
    parser.add_argument("checkpoint", type=Path, help="published .pth file")
    parser.add_argument("--config", required=True, choices=DATASETS, help="configuration that it was trained with")
    parser.add_argument("--out", required=True, type=Path, help="checkpoint to write (.safetensors)")
    args = parser.parse_args(argv)
    weights = convert_weights(read_published(args.checkpoint), args.config)
    dataset = DATASETS[args.config]
    checkpoint = Checkpoint(
        args.config, categories.load(dataset), weights, dataset=dataset, licence="see the publisher's terms"
    )
    checkpoint.save(args.out)
    print(f"{args.out}: {len(weights)} tensors, sha256 {archive.sha256(args.out)[:12]}")  # noqa: T201


if __name__ == "__main__":
    run(main)

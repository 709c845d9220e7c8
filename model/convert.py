"""`python -m model.convert`: a published UPSNet checkpoint becomes one of ours.

    uv run python -m model.convert upsnet_resnet_50_coco_90000.pth --config coco_r50 --out coco_r50.safetensors

Strict: with a missing, extra or misshapen key nothing is written. The message says how many there are, the first of
them, and what the file seems to be. The published network reads BGR, ours RGB: the input channels of the first
convolution are swapped here, once.
"""

import re
from collections.abc import Callable, Mapping

from model.begin import begin

if __name__ == "__main__":
    begin()

import torch
from torch import Tensor

from model import archive, weight_files
from model.checkpoint import Checkpoint, CheckpointError, read_published
from model.command import check_output_file, new_parser, path_name, run
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


def convert_weights(published: Mapping[str, Tensor], config: str) -> dict[str, Tensor]:
    """Weights under our names, checked against the configuration.

    Args:
        published: key -> tensor; a leading `module.` is stripped, `num_batches_tracked` counters are dropped.
        config: the configuration that the file was trained with, one of `DATASETS`.

    Raises:
        CheckpointError: keys are missing, unknown or misshapen, or no plain numbers: how many, the first of them, and
            what may help. The message goes on after the name of the file.
    """
    converted, faults = match(published, config)
    if faults:
        hint = weight_files.seem(published)
        if hint is None and not any(map(our_name, names(published))):
            hint = "None of its names is one of a published UPSNet."
        fitting = [other for other in DATASETS if hint is None and other != config and not match(published, other)[1]]
        if fitting:
            hint = f"It fits {fitting[0]}: give --config {fitting[0]}."
        raise CheckpointError(f"does not fit {config}, nothing was written: {faults}.{f' {hint}' * bool(hint)}")
    stem = "backbone.stem.conv.weight"
    converted[stem] = converted[stem].flip(1).contiguous()  # BGR -> RGB
    return converted


def names(published: Mapping[str, Tensor]) -> list[str]:
    """The keys of a published file without what a parallel run puts before them."""
    return [str(key).removeprefix("module.") for key in published]


def match(published: Mapping[str, Tensor], config: str) -> tuple[dict[str, Tensor], str]:
    """The tensors that a configuration has, by our names, and what does not match: empty where all do."""
    with torch.device("meta"):
        wanted = CONFIGURATIONS[config]().state_dict()
    converted: dict[str, Tensor] = {}
    extra, misshapen, odd = [], [], []
    for key, tensor in zip(names(published), published.values(), strict=True):
        if key.endswith("num_batches_tracked"):
            continue
        name = our_name(key)
        if name is None or name not in wanted or name in converted:
            extra.append(f"{key} {tuple(tensor.shape)}")
        elif tensor.shape != wanted[name].shape:
            misshapen.append(f"{key} {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}")
        elif tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
            odd.append(f"{key} {str(tensor.dtype).removeprefix('torch.')}")
        else:
            converted[name] = tensor.float().contiguous()
    known = {our_name(key) for key in names(published)}
    missing = [f"{name} {tuple(tensor.shape)}" for name, tensor in wanted.items() if name not in known]
    return converted, weight_files.faults(
        missing=missing, extra=extra, misshapen=misshapen, **{"no plain numbers": odd}
    )


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = new_parser(__doc__)
    parser.add_argument("checkpoint", type=path_name, help="published .pth file")
    parser.add_argument("--config", required=True, choices=DATASETS, help="configuration that it was trained with")
    parser.add_argument("--out", required=True, type=path_name, help="checkpoint to write (.safetensors)")
    args = parser.parse_args(argv)
    if args.out.suffix in (".pt", ".pth"):
        parser.error(f"--out {args.out}: a checkpoint of this project is a .safetensors file")
    check_output_file(args.out, args.checkpoint)
    published = read_published(args.checkpoint)
    try:
        weights = convert_weights(published, args.config)
    except CheckpointError as error:
        raise CheckpointError(f"{args.checkpoint} {error}") from error
    dataset = DATASETS[args.config]
    checkpoint = Checkpoint(
        args.config, categories.load(dataset), weights, dataset=dataset, licence="see the publisher's terms"
    )
    checkpoint.save(args.out)
    print(f"{args.out}: {len(weights)} tensors, sha256 {archive.sha256(args.out)[:12]}")  # noqa: T201


if __name__ == "__main__":
    run(main)

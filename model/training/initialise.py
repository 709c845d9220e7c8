"""The weights that a run starts from: drawn at random, or trained elsewhere."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from model import weight_files
from model.checkpoint import Checkpoint, CheckpointError, read_published
from model.interface.categories import Labels
from model.network.backbone import GlobalContext
from model.network.deformable import DeformableConv
from model.network.upsnet import UPSNet

# Cityscapes' class -> COCO's class of another name; classes without a counterpart are drawn at random.
COUNTERPARTS = {
    "sidewalk": "pavement-merged",
    "building": "building-other-merged",
    "wall": "wall-other-merged",
    "fence": "fence-merged",
    "vegetation": "tree-merged",
    "sky": "sky-other-merged",
}


def initialise(network: UPSNet) -> None:
    """Draw all weights of a network, in place."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, DeformableConv):
            nn.init.zeros_(module.offset.weight)
            if module.offset.bias is not None:
                nn.init.zeros_(module.offset.bias)
    for layer in network.pyramid.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
    for layer in (network.box_head.fc1, network.box_head.fc2):
        nn.init.kaiming_uniform_(layer.weight, a=1)
    small = [network.rpn.conv, network.rpn.logits, network.rpn.deltas, network.box_head.logits]
    for part in [*small, network.semantic_head.logits]:
        nn.init.normal_(part.get_parameter("weight"), std=0.01)
    nn.init.normal_(network.box_head.deltas.weight, std=0.001)
    for module in network.modules():
        if isinstance(module, GlobalContext):
            module.linear.reset_parameters()  # torch's own start, its bias too


def backbone_name(key: str) -> str | None:
    """Our name of a tensor of torchvision's ResNet; None for its classifier and its counters."""
    if key.startswith("fc.") or key.endswith("num_batches_tracked"):
        return None
    rules = [
        (r"^conv1\.", "backbone.stem.conv."),
        (r"^bn1\.", "backbone.stem.norm."),
        (r"^layer(\d)\.(\d+)\.conv(\d)\.", lambda m: f"backbone.c{int(m[1]) + 1}.{m[2]}.conv{m[3]}."),
        (r"^layer(\d)\.(\d+)\.bn(\d)\.", lambda m: f"backbone.c{int(m[1]) + 1}.{m[2]}.norm{m[3]}."),
        (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: f"backbone.c{int(m[1]) + 1}.{m[2]}.shortcut.conv."),
        (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: f"backbone.c{int(m[1]) + 1}.{m[2]}.shortcut.norm."),
    ]
    for pattern, ours in rules:
        name, found = re.subn(pattern, ours, key)  # type: ignore[call-overload]
        if found:
            return str(name)
    return key


def load_backbone(network: UPSNet, path: Path, kind: str) -> None:
    """Load ImageNet weights into the backbone: every tensor except in offset convolutions, which they lack.

    Args:
        network: network whose backbone is filled.
        path: .pth file of tensors by torchvision's names.
        kind: `caffe`, as published: BGR input minus its mean, the stride in the first 1 x 1 convolution. Or
            `torchvision`: RGB input divided by its deviation, the stride in the 3 x 3 convolution. This network has its
            stride one convolution earlier, so those features differ until they are trained.

    Raises:
        CheckpointError: keys are missing, unknown or misshapen.
    """
    published = read_published(path)
    weights = {name: tensor for key, tensor in published.items() if (name := backbone_name(key)) is not None}
    stem = "backbone.stem.conv.weight"
    if stem in weights:
        if kind == "caffe":
            weights[stem] = weights[stem].flip(1)  # BGR -> RGB
        else:
            deviation = torch.tensor([58.395, 57.12, 57.375])
            weights[stem] = weights[stem] / deviation[:, None, None]
    wanted = {name for name in network.state_dict() if name.startswith("backbone.") and ".offset." not in name}
    fill(network, weights, wanted, str(path))


def fill(network: UPSNet, weights: dict[str, Tensor], wanted: set[str], source: str) -> None:
    """Load weights that have exactly the wanted names; `source` is the file that messages name.

    Raises:
        CheckpointError: tensors are missing, unknown or misshapen.
    """
    state = network.state_dict()
    faults = weight_files.misfits(weights, {name: tensor for name, tensor in state.items() if name in wanted})
    if faults:
        raise CheckpointError(f"{source} does not fit the network: {faults}.")
    network.load_state_dict({**state, **weights})


def load_network(network: UPSNet, path: Path, labels: Labels) -> str:
    """Load the weights of a checkpoint or an archive; where the classes differ, rows are copied by their names.

    Returns:
        What was taken, and which classes are new, in one line.

    Raises:
        CheckpointError: the file is no checkpoint, or does not fit the network.
        archive.ArchiveError: the .pt file is no archive.
    """
    source = Checkpoint.of_archive(path) if path.suffix == ".pt" else Checkpoint.load(path)
    weights, theirs = source.weights, source.categories
    by_class: dict[str, Tensor] = {}
    if kinds_of(theirs) != kinds_of(labels):
        by_class = map_classes(weights, theirs, labels)
    fill(network, weights | by_class, set(network.state_dict()), f"{path}, weights of {source.configuration},")
    told = f"{path}: took {len(weights) - len(by_class)} of {len(weights)} tensors"
    if not by_class:
        return f"{told}, for the same classes."
    fresh = new_classes(theirs, labels)
    drawn = f"new, drawn at random: {', '.join(fresh)}" if fresh else "none is new"
    return f"{told}, and of the other {len(by_class)} the rows of known classes; of {len(labels)} classes {drawn}."


def kinds_of(labels: Labels) -> list[tuple[str, bool]]:
    """Name of each class, and whether it is a thing: networks with the same ones have the same rows."""
    return [(label.name, label.isthing) for label in labels]


def new_classes(theirs: Labels, ours: Labels) -> list[str]:
    """Names of our classes that have no row among theirs; things that are stuff there lack those of the detections."""
    known = [name for name, row in zip(ours.names, matching_rows(theirs, ours), strict=True) if row is not None]
    rows = matching_rows(theirs.things, ours.things)
    unseen = {name for name, row in zip(ours.things.names, rows, strict=True) if row is None}
    marked = {name: f"{name} (as a thing)" if name in known else name for name in ours.names}
    return [marked[name] for name in ours.names if name not in known or name in unseen]


def matching_rows(theirs: Labels, ours: Labels) -> list[int | None]:
    """The index of each of our classes, else of its counterpart, among theirs; None where they have neither."""
    index: dict[str, int | None] = {name: i for i, name in enumerate(theirs.names)}
    return [index.get(name, index.get(COUNTERPARTS.get(name, name))) for name in ours.names]


def map_classes(weights: dict[str, Tensor], theirs: Labels, ours: Labels) -> dict[str, Tensor]:
    """The tensors that have a row for each class, with the rows that our classes need.

    A row is copied from the class of the same name or from its counterpart. The other rows are drawn from a normal
    distribution with the mean and deviation of the whole source tensor.
    """
    semantic = matching_rows(theirs, ours)
    things = [0, *(None if row is None else row + 1 for row in matching_rows(theirs.things, ours.things))]
    rows_of = {"semantic_head.logits": (semantic, 1), "box_head.logits": (things, 1), "box_head.deltas": (things, 4)}
    rows_of["mask_head.logits"] = (things, 1)
    mapped = {}
    for layer, (rows, width) in rows_of.items():
        for part in ("weight", "bias"):
            source = weights[f"{layer}.{part}"]
            grouped = source.view(-1, width, *source.shape[1:])
            fresh = torch.randn(len(rows), *grouped.shape[1:]) * grouped.std() + grouped.mean()
            for i, row in enumerate(rows):
                if row is not None:
                    fresh[i] = grouped[row]
            mapped[f"{layer}.{part}"] = fresh.view(-1, *source.shape[1:])
    return mapped

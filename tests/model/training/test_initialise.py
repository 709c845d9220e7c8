"""Weights that a run starts from: drawn, of ImageNet, or of another network of ours."""

import re
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, CheckpointError, build_network
from model.interface import categories
from model.interface.categories import Labels
from model.network.configurations import coco_r50
from model.training.initialise import initialise, load_backbone, load_network, map_classes
from tests.paths import DEMO


def test_imagenet_weights_fill_the_backbone(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    weights = torchvision.models.resnet50(weights=None).state_dict()
    torch.save(weights, tmp_path / "resnet50.pth")
    network = coco_r50(stuff=2, things=2)
    load_backbone(network, tmp_path / "resnet50.pth", "caffe")
    assert torch.equal(network.backbone.stem.conv.weight, weights["conv1.weight"].flip(1))
    assert torch.equal(network.backbone.c5[2].conv3.weight, weights["layer4.2.conv3.weight"])
    del weights["layer1.0.bn1.bias"]
    torch.save(weights, tmp_path / "broken.pth")
    with pytest.raises(
        CheckpointError, match=r"broken\.pth does not fit the network: 1 missing: backbone\.c2\.0\.norm1\.bias\.$"
    ):
        load_backbone(network, tmp_path / "broken.pth", "caffe")


def test_rows_of_coco_classes_move_to_cityscapes() -> None:
    coco, cityscapes = categories.load("coco"), categories.load("cityscapes")
    weights = {}
    for layer, rows in {"semantic_head.logits": 133, "box_head.logits": 81, "box_head.deltas": 324}.items():
        weights[f"{layer}.weight"] = torch.arange(float(rows))[:, None].repeat(1, 2)
        weights[f"{layer}.bias"] = torch.arange(float(rows))
    weights["mask_head.logits.weight"] = torch.arange(81.0)[:, None, None, None].repeat(1, 2, 1, 1)
    weights["mask_head.logits.bias"] = torch.arange(81.0)
    mapped = map_classes(weights, coco, cityscapes)
    semantic = dict(
        zip([label.name for label in cityscapes], mapped["semantic_head.logits.bias"].tolist(), strict=True)
    )
    wanted = {"road": 20, "sidewalk": 43, "building": 49, "wall": 51, "fence": 37, "traffic light": 62}
    wanted |= {"vegetation": 36, "sky": 39, "person": 53, "car": 55, "truck": 60, "bus": 58, "train": 59}
    wanted |= {"motorcycle": 56, "bicycle": 54}
    # a traffic light is a thing on COCO and stuff on Cityscapes: its semantic row moves, no detection row does
    assert {name: semantic[name] for name in wanted} == wanted
    assert mapped["box_head.logits.bias"].tolist()[:2] == [0, 1]
    assert mapped["box_head.logits.bias"].tolist()[3] == 3
    assert mapped["box_head.deltas.bias"].tolist()[12:16] == [12, 13, 14, 15]


def test_offsets_start_at_zero() -> None:
    network = build_network("camvid_demo", categories.load("camvid"))
    initialise(network)
    assert network.semantic_head.layers[0].offset.weight.abs().max() == 0
    assert network.box_head.logits.weight.std() < 0.02


def test_each_layer_starts_as_published() -> None:
    torch.manual_seed(0)
    network = coco_r50(stuff=2, things=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7)
    initialise(network)

    def deviation(layer: torch.nn.Module) -> float:
        return float(layer.get_parameter("weight").detach().std())

    context, heads = network.pyramid.context.linear, network.box_head
    bound = 2048**-0.5  # of torch's uniform start, weight and bias
    for part in (context.weight, context.bias):
        assert 0.95 * bound < part.abs().max() <= bound
    uniform = [network.pyramid.output2[0], network.pyramid.lateral5[0], heads.fc1, heads.fc2]
    for layer in uniform:  # kaiming-uniform, a = 1
        assert deviation(layer) == pytest.approx(layer.weight[0].numel() ** -0.5, rel=0.02)
        assert layer.weight.abs().max() <= (3 / layer.weight[0].numel()) ** 0.5 + 1e-6
    masks = network.mask_head
    for layer in [masks.layers[0], masks.layers[9], network.semantic_head.layers[0]]:  # kaiming-normal of its inputs
        assert deviation(layer) == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.02)
    assert deviation(masks.logits) == pytest.approx((2 / 256) ** 0.5, rel=0.1)
    for layer in [network.rpn.conv, network.rpn.deltas, network.rpn.logits, network.semantic_head.logits, heads.logits]:
        assert deviation(layer) == pytest.approx(0.01, rel=0.1)
    assert deviation(heads.deltas) == pytest.approx(0.001, rel=0.1)
    biases = {
        name: part for name, part in network.named_parameters() if name.endswith(".bias") and ".context." not in name
    }
    assert all(not part.any() for part in biases.values())


def test_an_archive_starts_a_run() -> None:
    labels = categories.load("camvid")
    network = build_network("camvid_demo", labels)
    told = load_network(network, DEMO, labels)
    count = len(network.state_dict())
    assert told == f"{DEMO}: took {count} of {count} tensors, for the same classes."
    archived = Checkpoint.of_archive(DEMO).weights
    assert all(torch.equal(tensor, archived[name]) for name, tensor in network.state_dict().items())
    fewer = Labels(tuple(label for label in labels if label.name != "bicyclist"))
    small = build_network("camvid_demo", fewer)
    told = load_network(small, DEMO, fewer)
    assert told.endswith("the rows of known classes; of 10 classes none is new.")
    assert torch.equal(small.box_head.logits.bias, network.box_head.logits.bias[:3])


def test_weights_of_another_network_are_told_in_one_line() -> None:
    labels = categories.load("camvid")
    with pytest.raises(CheckpointError, match=r"pt, weights of camvid_demo, does not fit the network: ") as error:
        load_network(build_network("coco_r50", labels), DEMO, labels)
    assert all(
        part in str(error.value) for part in (" missing: ", "; 34 extra: ", " misshapen: backbone.stem.conv.weight")
    )
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(("content", "told"), [(b"", "It is empty."), (DEMO.read_bytes(), "It is an archive")])
def test_what_is_no_backbone_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "resnet.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"resnet.pth is not a published checkpoint. {told}")):
        load_backbone(coco_r50(stuff=2, things=2), tmp_path / "resnet.pth", "caffe")


def test_new_classes_are_named() -> None:
    labels = categories.load("camvid")
    kinds = [*labels.to_json(), {"id": 90, "name": "tram", "isthing": 1}, {"id": 91, "name": "lake", "isthing": 0}]
    kinds = [kind | {"isthing": 1} if kind["name"] == "tree" else kind for kind in kinds]
    more = categories.parse(kinds)
    network = build_network("camvid_demo", more)
    initialise(network)
    told = load_network(network, DEMO, more)
    count = len(network.state_dict())
    rows = f"took {count - 8} of {count} tensors, and of the other 8 the rows of known classes; "
    assert told == f"{DEMO}: {rows}of 13 classes new, drawn at random: lake, tree (as a thing), tram."


def test_things_that_are_stuff_elsewhere_are_mapped_by_name() -> None:
    labels = categories.load("camvid")
    last = labels.stuff.names[-1]  # the order of all names stays
    turned = categories.parse(
        label.to_json() | {"isthing": int(label.isthing or label.name == last)} for label in labels
    )
    assert turned.names == labels.names
    network = build_network("camvid_demo", turned)
    assert f"drawn at random: {last} (as a thing)." in load_network(network, DEMO, turned)

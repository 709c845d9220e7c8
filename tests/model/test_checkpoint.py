"""Checkpoints: what is saved is loaded, what does not fit is refused, and published files are only read."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as safetensors
from safetensors.torch import save_file

from model.archive import ArchiveError
from model.checkpoint import (
    Checkpoint,
    CheckpointError,
    build_network,
    read_published,
    set_thresholds,
    thresholds_of,
)
from model.interface import categories
from tests.paths import DEMO

LABELS = categories.load("camvid")


def test_a_checkpoint_reads_as_it_was_written(tmp_path: Path) -> None:
    scale, scores = {"short_side": 64, "long_side": 96}, {"pq": 12.5}
    written = Checkpoint(
        "camvid_demo", LABELS, {"a": torch.arange(3.0)}, {"score": 0.1}, scale, "streets", "CC0", scores
    )
    written.save(tmp_path / "new/a.safetensors")
    read = Checkpoint.load(tmp_path / "new/a.safetensors")
    assert torch.equal(read.weights.pop("a"), written.weights.pop("a"))
    assert read == written
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]


def write(path: Path, **changed: Any) -> Path:
    fields = {"configuration": "camvid_demo", "categories": LABELS.to_json(), **changed}
    save_file({"a": torch.ones(1)}, path, {name: json.dumps(value) for name, value in fields.items()})
    return path


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"categories": [{"id": 1, "isthing": 0}]}, "category .* needs id, name, isthing"),
        ({"categories": [{"id": 1, "name": "a", "isthing": 0}] * 2}, r"category ids \[1\] appear twice"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_a_checkpoint_with_other_fields_is_refused(tmp_path: Path, changed: dict[str, Any], part: str) -> None:
    path = write(tmp_path / "a.safetensors", **changed)
    with pytest.raises(CheckpointError, match=rf"a\.safetensors is not a checkpoint of this project: .*{part}"):
        Checkpoint.load(path)


def test_a_missing_checkpoint_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^\S+/a\.safetensors is not a file\. Name a checkpoint\.$"):
        Checkpoint.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"It is empty\."),
        (b"hello", r"It is no file of torch's, or is damaged\."),
        (b"<html>", "It is a web page"),
        (DEMO.read_bytes(), "It is an archive of this project already"),
        (safetensors({"a.weight": torch.zeros(2)}), r"It is a safetensors file with the names 'a\.weight'\."),
    ],
    ids=["empty", "text", "page", "archive", "weights"],
)
def test_what_is_no_checkpoint_is_told_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\.safetensors is not a checkpoint of this project\. {told}") as error:
        Checkpoint.load(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)


def test_weights_of_another_network_do_not_build(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"The weights do not fit camvid_demo: \d+ missing: .*; 1 extra: a\.$"
    ) as error:
        Checkpoint.load(write(tmp_path / "a.safetensors")).build()
    assert len(str(error.value)) < 250


def test_an_unknown_configuration_is_named_beside_those_that_are_known() -> None:
    with pytest.raises(CheckpointError, match="'resnet_9000' is not one of coco_r50, "):
        build_network("resnet_9000", LABELS)


@pytest.mark.parametrize("counts", [(0, 2), (2, 0), (4, 300)])
def test_classes_that_no_network_tells_apart_are_refused(counts: tuple[int, int]) -> None:
    kinds = [{"id": i, "name": str(i), "isthing": int(i >= counts[0])} for i in range(sum(counts))]
    with pytest.raises(
        CheckpointError, match=rf"^camvid_demo: {counts[0]} classes of stuff and {counts[1]} of things: "
    ):
        build_network("camvid_demo", categories.parse(kinds))


def test_a_network_has_the_classes_and_the_test_scale_that_are_asked_for() -> None:
    with torch.device("meta"):
        network = build_network("camvid_demo", LABELS, short_side=64, long_side=96)
    assert network.semantic_head.logits.out_channels == len(LABELS)
    assert network.mask_head.logits.out_channels == len(LABELS.things) + 1
    assert network.padded_size(64, 96) == (64, 96)
    assert not network.training


def test_thresholds_that_are_not_given_stay() -> None:
    with torch.device("meta"):
        network = build_network("camvid_demo", LABELS)
    set_thresholds(network, {"panoptic_score": 0.25})
    assert thresholds_of(network) == {"score": 0.05, "panoptic_score": 0.25, "stuff_area": 256}


def test_an_archive_becomes_the_checkpoint_that_it_was_exported_from(tiny_checkpoint: Path, tiny_archive: Path) -> None:
    before, after = Checkpoint.load(tiny_checkpoint), Checkpoint.of_archive(tiny_archive)
    assert (after.configuration, after.categories) == (before.configuration, before.categories)
    assert after.thresholds == {"score": 0.05, "panoptic_score": 0.3, "stuff_area": 10}
    assert after.test_scale == before.test_scale
    assert {name for name, _ in after.build().named_parameters()} <= set(after.weights)
    with pytest.raises(ArchiveError, match="does not exist"):
        Checkpoint.of_archive(tiny_archive.with_name("other.pt"))


def test_the_demo_builds_from_its_archive() -> None:
    assert len(Checkpoint.of_archive(DEMO).build().state_dict()) > 100


class Exploit:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("gotcha",)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, r"official\.pth is not a file\. Name a checkpoint\.$"),
        (b"", r"is not a published checkpoint\. It is empty\.$"),
        (b"hello", r"It is no file of torch's, or is damaged\.$"),
        (b"\x80\x02X\x03\x00\x00\x00a\xffb.", r"It is no file of torch's, or is damaged\.$"),
        (pickle.dumps(Exploit()), r"is not a published checkpoint\. "),
    ],
)
def test_a_published_file_is_read_and_never_run(
    tmp_path: Path, content: bytes | None, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "official.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=part) as error:
        read_published(path)
    assert "\n" not in str(error.value)
    assert "gotcha" not in capsys.readouterr().out


def test_a_published_file_is_a_dictionary_of_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pth")
    assert read_published(tmp_path / "good.pth")["a"].tolist() == [1, 1]
    for wrong in ([torch.ones(2)], {"a": 1}):
        torch.save(wrong, tmp_path / "bad.pth")
        with pytest.raises(CheckpointError, match=r"It (holds a list|is a dictionary with 'a', not of tensors alone)"):
            read_published(tmp_path / "bad.pth")

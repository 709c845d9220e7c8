"""A tiny network through checkpoint, export and archive: the same answer at each station."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from model import archive, export
from model.checkpoint import Checkpoint, CheckpointError, build_network
from model.convert import convert_weights
from model.interface import categories
from model.interface.codec import encode_png
from model.predict import __main__ as predict
from model.predictor import Predictor
from model.training.initialise import initialise

LABELS = categories.load("camvid")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_network("camvid_demo", LABELS, short_side=64, long_side=96)
    initialise(network)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    scale = {"short_side": 64, "long_side": 96}
    Checkpoint("camvid_demo", LABELS, network.state_dict(), {"panoptic_score": 0.3}, scale).save(path)
    return path


@pytest.fixture(scope="module")
def tiny(checkpoint: Path) -> Path:
    path = checkpoint.with_name("tiny.pt")
    export.main([str(checkpoint), "--out", str(path), "--stuff-area", "10", "--half"])
    return path


def test_eager_scripted_and_reloaded_agree_bit_by_bit(checkpoint: Path, tmp_path: Path) -> None:
    loaded = Checkpoint.load(checkpoint)
    network = loaded.build()
    scripted, metadata = export.export(loaded, "0" * 64, "tiny", half=False)
    archive.save(scripted, metadata, tmp_path / "full.pt")
    reloaded, read = archive.load(tmp_path / "full.pt")
    assert read == metadata
    picture = archive.sample_picture(70, 90)
    with torch.inference_mode():
        answers = [module([picture])[0] for module in (network, scripted, reloaded)]
    for name in answers[0]._fields:
        assert torch.equal(getattr(answers[0], name), getattr(answers[1], name)), name
        assert torch.equal(getattr(answers[0], name), getattr(answers[2], name)), name


def test_a_network_is_scripted_to_run_as_an_archive_does() -> None:
    with archive.quiet():
        torch.jit.set_fusion_strategy([("STATIC", 2)])
        archive.script(build_network("camvid_demo", LABELS))
        assert torch.jit.set_fusion_strategy([]) == []


def test_no_number_is_copied_to_a_device_for_each_image(tiny: Path) -> None:
    """TorchScript makes `torch.tensor(1, device=...)` of `x[...] = 1`, and the host waits for the copy."""
    copies = []
    with zipfile.ZipFile(tiny) as file:
        for name in file.namelist():
            if name.endswith(".py"):
                copies += re.findall(r"torch\.tensor\(.*device=.*", file.read(name).decode())
    assert len(copies) == 1  # of `PanopticHead.forward`, which a device with kernels never calls
    assert "semantic_logits" in copies[0]


def test_answers_add_up_for_awkward_sizes(tiny: Path) -> None:
    predictor = Predictor(tiny, "cpu")
    for height, width in [(1, 1), (1, 300), (400, 2), (33, 65)]:
        found = predictor.predict([np.full((height, width, 3), 90, np.uint8)])[0]
        assert found.segment_ids.shape == (height, width)
        ids, areas = np.unique(found.segment_ids[found.segment_ids > 0], return_counts=True)
        assert ids.tolist() == [segment.id for segment in found.segments] == list(range(1, len(ids) + 1))
        assert areas.tolist() == [segment.area for segment in found.segments]
        for segment in found.segments:
            ys, xs = np.nonzero(found.segment_ids == segment.id)
            wide = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
            assert segment.bbox == wide
            assert 0 <= segment.score <= 1
    assert predictor.predict([]) == []


def test_thresholds_and_scale_of_the_export_are_in_the_archive(tiny: Path) -> None:
    metadata = archive.read_metadata(tiny)
    assert metadata.thresholds == {"score": 0.05, "panoptic_score": 0.3, "stuff_area": 10}
    assert metadata.test_scale == {"short_side": 64, "long_side": 96}
    assert [label.name for label in metadata.categories][:2] == ["sky", "building"]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("missing", "does not exist"),
        ("folder", "is a folder"),
        ("text", "is not an archive"),
        ("bare", "holds no metadata"),
        ("future", "format version 99"),
    ],
)
def test_what_is_not_our_archive_is_refused_in_one_line(tmp_path: Path, kind: str, part: str) -> None:
    path = tmp_path / "a.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind in ("bare", "future"):
        with zipfile.ZipFile(path, "w") as file:
            name = "a/extra/metadata.json" if kind == "future" else "a/data.pkl"
            file.writestr(name, json.dumps({"format_version": 99}))
    with pytest.raises(archive.ArchiveError, match=part) as error:
        archive.load(path)
    assert "\n" not in str(error.value)


def test_an_archive_that_is_not_the_manifests_is_refused(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(tiny.read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps({"copy.pt": {"sha256": "0" * 64}}))
    with pytest.raises(archive.ArchiveError, match="manifest lists 000000000000"):
        archive.verify(copy)


def test_conversion_lists_every_fault_and_writes_nothing() -> None:
    weights = {"module.fpn.fpn_p2.weight": torch.zeros(1), "head.extra": torch.zeros(2)}
    with pytest.raises(CheckpointError) as error:
        convert_weights(weights, "coco_r50")
    text = str(error.value)
    assert "extra head.extra (2,)" in text
    assert "misshapen fpn.fpn_p2.weight: (1,), expected (256, 256, 3, 3)" in text
    assert "missing semantic_head.logits.weight (133, 512, 1, 1)" in text


def test_predict_writes_a_panoptic_folder_and_goes_on(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    picture = archive.sample_picture(40, 60).permute(1, 2, 0).numpy()
    for path in (photos / "a.png", photos / "more/a.png"):
        path.write_bytes(encode_png(picture))
    (photos / "b.jpg").write_bytes(b"not a photo")
    out = tmp_path / "out"
    arguments = [str(tiny), str(photos), "--out", str(out), "--overlay", "--device", "cpu"]
    assert predict.main(arguments) == 1
    content = json.loads((out / "panoptic.json").read_text())
    assert [entry["file_name"] for entry in content["annotations"]] == ["a.png", "a~2.png"]
    assert (out / "panoptic/a~2.png").is_file()
    assert (out / "overlay/a.jpg").is_file()
    assert "b.jpg" in capsys.readouterr().err
    (photos / "b.jpg").unlink()
    assert predict.main(arguments) == 0
    assert "2 of 2 photos are done already" in capsys.readouterr().out

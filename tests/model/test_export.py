"""The command that writes archives."""

from pathlib import Path

import pytest
import torch

from model import archive, export
from model.checkpoint import Checkpoint, CheckpointError
from model.interface import categories
from tests.model.typed import typed


def test_thresholds_and_scale_of_the_export_are_in_the_archive(tiny_archive: Path) -> None:
    metadata = archive.read_metadata(tiny_archive)
    assert metadata.thresholds == {"score": 0.05, "panoptic_score": 0.3, "stuff_area": 10}
    assert metadata.test_scale == {"short_side": 64, "long_side": 96}
    assert [label.name for label in metadata.categories][:2] == ["sky", "building"]
    assert metadata.instances == 100


def test_the_archive_says_what_it_was_made_from(tiny_checkpoint: Path, tiny_archive: Path) -> None:
    metadata = archive.read_metadata(tiny_archive)
    assert (metadata.name, metadata.configuration, metadata.format_version) == ("tiny", "camvid_demo", 2)
    assert metadata.source_sha256 == archive.sha256(tiny_checkpoint)
    assert metadata.software["torch"] == torch.__version__


def test_half_precision_halves_the_file(tiny_checkpoint: Path, tiny_archive: Path, tmp_path: Path) -> None:
    words = [str(tiny_checkpoint), "--out", str(tmp_path / "new/full.pt"), "--name", "full", "--short-side", "96"]
    assert typed("model.export", *words, "--score", "0.7") == 0
    full = tmp_path / "new/full.pt"
    assert 0.45 < tiny_archive.stat().st_size / full.stat().st_size < 0.65
    metadata = archive.read_metadata(full)
    assert (metadata.name, metadata.thresholds["panoptic_score"]) == ("full", 0.7)
    assert metadata.test_scale == {"short_side": 96, "long_side": 96}


@pytest.mark.parametrize("counts", [(0, 2), (2, 0), (3, 300)])
def test_a_network_whose_answers_would_be_confused_is_refused(
    tmp_path: Path, counts: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [{"id": i, "name": str(i), "isthing": int(i >= counts[0])} for i in range(sum(counts))]
    Checkpoint("camvid_demo", categories.parse(kinds), {"a": torch.ones(1)}).save(tmp_path / "a.safetensors")
    assert typed("model.export", str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "a.pt")) == 1
    assert (
        f"error: {tmp_path / 'a.safetensors'}: {counts[0]} classes of stuff and {counts[1]} of things: "
        in capsys.readouterr().err
    )
    assert not (tmp_path / "a.pt").exists()


class Shifted:
    """An answer that no network gives."""

    def __getattr__(self, name: str) -> torch.Tensor:
        return torch.full((1,), -1.0)


def test_a_network_that_answers_otherwise_when_it_is_scripted_is_refused(tiny_checkpoint: Path) -> None:
    network = Checkpoint.load(tiny_checkpoint).build()
    with pytest.raises(CheckpointError, match="Eager and scripted network differ in segment_ids; nothing was written"):
        export.check_equal(network, lambda _: [Shifted()])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        (["--short-side", "0"], 2, "--short-side: expected a whole number above 0, got '0'"),
        (["--long-side", "wide"], 2, "--long-side: expected a whole number above 0, got 'wide'"),
        (["--score", "high"], 2, "--score: expected a number, from 0 to 1, got 'high'"),
        ([], 1, "no.safetensors is not a file"),
    ],
)
def test_wrong_words_are_refused_with_a_reason(
    tmp_path: Path, options: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "no.safetensors"), "--out", str(tmp_path / "a.pt"), *options]
    assert typed("model.export", *words) == status
    assert part in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_looked_at_first(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the checkpoint is read, which is not there."""
    words = [str(tmp_path / "no.safetensors"), "--out"]
    (tmp_path / "file").touch()
    for name, part in ((".", "is a folder"), ("file/x.pt", "is no folder"), ("/proc/x.pt", "cannot be written")):
        assert typed("model.export", *words, str(tmp_path / name)) == 1
        said = capsys.readouterr().err
        assert part in said
        assert said.count("\n") == 1
    assert typed("model.export", str(tmp_path / "file"), "--out", str(tmp_path / "file")) == 1
    assert "file is read by this command too" in capsys.readouterr().err
    assert typed("model.export", str(tiny_checkpoint), "--out", str(tiny_checkpoint)) == 2
    assert "an archive is a .pt file" in capsys.readouterr().err

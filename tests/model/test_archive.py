"""Archives: what is saved is loaded, and what is no archive is refused with a reason."""

import json
import re
import resource
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch

from model import archive, export
from model.checkpoint import Checkpoint, build_network
from model.interface import categories
from tests.paths import ROOT

# What torch 2.15 and torchvision 0.29 have and torch 2.11 and torchvision 0.26 lack.
NEW_OPERATORS = {
    "_cudnn_attention_forward_no_dropout_inplace",
    "_flash_attention_forward_no_dropout_inplace",
    "_foreach_clone",
    "_foreach_mm",
    "_is_tracing",
    "_philox_key_fold_in",
    "_philox_key_split",
    "_philox_normal",
    "_philox_normal_",
    "_philox_randint",
    "_philox_randint_",
    "_philox_uniform",
    "_philox_uniform_",
    "_scaled_addmm",
    "_scaled_addmm_",
    "_scaled_grouped_mm_v2",
    "_upsample_lanczos2d_aa",
    "_upsample_lanczos2d_aa_backward",
    "box_iou_rotated",
    "broadcast_shapes",
    "linalg_matrix_sqrth",
    "linalg_polar",
    "qnms",
    "qroi_align",
    "shallow_copy_data_",
}


def test_eager_scripted_and_reloaded_agree_bit_by_bit(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = Checkpoint.load(tiny_checkpoint)
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


def test_a_full_disk_leaves_the_old_archive(tiny_archive: Path, tmp_path: Path) -> None:
    """And the process: torch ends it where it writes the file itself."""
    scripted, metadata = archive.load(tiny_archive)
    (tmp_path / "old.pt").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            archive.save(scripted, metadata, tmp_path / "old.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.pt", "old")]


def test_a_network_is_scripted_to_run_as_an_archive_does() -> None:
    with archive.quiet():
        torch.jit.set_fusion_strategy([("STATIC", 2)])
        archive.script(build_network("camvid_demo", categories.load("camvid")))
        assert torch.jit.set_fusion_strategy([]) == []


def code_of(path: Path) -> list[str]:
    """The files of an archive's code."""
    with zipfile.ZipFile(path) as file:
        code = [file.read(name).decode() for name in file.namelist() if name.endswith(".py")]
    assert any("def forward" in text for text in code)
    return code


def test_an_archive_calls_no_operator_that_the_oldest_torch_lacks(tiny_archive: Path) -> None:
    """Also in branches that never run: an unknown operator anywhere keeps torch from loading the archive."""
    called = {name for text in code_of(tiny_archive) for name in re.findall(r"\b(?:torch|ops\.\w+)\.(\w+)\(", text)}
    assert {"conv2d", "sum_levels", "panoptic"} <= called
    assert called & NEW_OPERATORS == set()


def test_the_operators_of_each_supported_torch_are_known() -> None:
    """The list above is of these versions; `torch._C._jit_get_all_schemas` has the names of each."""
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {"torch>=2.11,<2.16", "torchvision>=0.26,<0.30"} <= set(supported)


def test_no_number_is_copied_to_a_device_for_each_image(tiny_archive: Path) -> None:
    """TorchScript makes `torch.tensor(1, device=...)` of `x[...] = 1`, and the host waits for the copy."""
    code = code_of(tiny_archive)
    assert [copy for text in code for copy in re.findall(r"torch\.tensor\(.*device=.*", text)] == []


def test_weights_are_cast_and_buffers_stay() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4))
    archive.cast_weights(layers, torch.float16)
    assert layers[0].weight.dtype == torch.float16
    assert layers[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert layers[1].running_mean.dtype == torch.float32


def test_the_sample_picture_is_the_same_each_time_and_has_edges() -> None:
    picture = archive.sample_picture(40, 60)
    assert (picture.shape, picture.dtype) == ((3, 40, 60), torch.uint8)
    assert torch.equal(picture, archive.sample_picture(40, 60))
    assert (int(picture.min()), int(picture.max())) == (0, 254)


def test_what_is_no_archive_is_refused_before_its_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_text("hello")
    with pytest.raises(archive.ArchiveError, match="is not an archive"):
        archive.load(path)


def test_an_archive_that_the_manifest_does_not_mean_is_refused_before_its_code_runs(
    tiny_archive: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(tiny_archive, tmp_path / "copy.pt"))
    (tmp_path / "manifest.json").write_text(json.dumps({"copy.pt": {"sha256": "0" * 64}}))
    with pytest.raises(archive.ArchiveError, match="manifest lists 000000000000"):
        archive.load(path)


def test_an_unknown_device_is_refused(tiny_archive: Path) -> None:
    with pytest.raises(archive.ArchiveError, match=r"tiny\.pt does not load on toaster: "):
        archive.load(tiny_archive, "toaster")


def test_clients_see_the_name_and_the_start_of_the_digest(tiny_archive: Path) -> None:
    metadata = archive.read_metadata(tiny_archive)
    assert archive.full_name(tiny_archive, metadata) == f"tiny@{archive.sha256(tiny_archive)[:8]}"

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
from model.network.backbone import fold_norms
from model.network.configurations import CONFIGURATIONS
from tests.model.operators import OLDEST, called, recorded
from tests.paths import ROOT


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


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_an_archive_calls_no_operator_that_the_oldest_torch_lacks(configuration: str) -> None:
    """Also in branches that never run: an unknown operator anywhere keeps torch from loading the archive.

    Where torch 2.11 has what is new here, add its line to the list: the run with the oldest versions compares it.
    """
    with torch.device("meta"):
        network = build_network(configuration, categories.load("camvid"))
    fold_norms(network)  # as `model.export` does
    calls = {schema for schema in called(archive.script(network)) if not schema.startswith("upsnet::")}
    assert any(schema.startswith("aten::conv2d(") for schema in calls)
    assert calls - recorded() == set()


def test_an_operator_of_a_newer_torch_is_noticed() -> None:
    class Newer(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            if maps.dim() == 5:  # never
                maps = torch.nn.functional.interpolate(maps, scale_factor=2.0)
            return maps

    assert [schema for schema in called(archive.script(Newer())) - recorded() if "upsample_nearest2d" in schema]


def test_the_recorded_operators_are_those_of_the_oldest_torch() -> None:
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {"torch>=2.11,<2.16", "torchvision>=0.26,<0.30"} <= set(supported)
    if {name: version.partition("+")[0] for name, version in archive.software().items()} != OLDEST:
        pytest.skip("needs torch 2.11 and torchvision 0.26: `pytest -m versions` runs it with them")
    known = {str(schema) for schema in torch._C._jit_get_all_schemas()}
    assert {schema for schema in recorded() if "(" in schema} - known == set()


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
    with pytest.raises(archive.ArchiveError, match=r"tiny\.pt does not load on toaster: ") as refusal:
        archive.load(tiny_archive, "toaster")
    assert "written with" not in str(refusal.value)  # another torch would not help


NEWER = {"torch": "2.99.1", "torchvision": "0.99.0"}


def rewritten(source: Path, path: Path, *changes: tuple[str, str], wrote: object = NEWER, members: str = ".py") -> Path:
    """A copy of an archive with other code, as another torch might have written it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/metadata.json"):
                content = json.dumps({**json.loads(content), "software": wrote}).encode()
            if name.endswith(members):
                for before, after in changes:
                    content = content.replace(before.encode(), after.encode())
            new.writestr(name, content)
    return path


SUM = "ops.upsnet.sum_levels(levels, bias)"
UNREADABLE: dict[str, tuple[list[tuple[str, str]], str, str]] = {
    "operator": ([("torch.sigmoid(", "torch.sigmoidal(")], "aten::sigmoidal is missing here", "Install"),
    "library": ([("ops.torchvision.nms(", "ops.torchvision.soft_nms(")], "torchvision::soft_nms is missing", "Install"),
    "primitive": ([("ops.prim.device(", "ops.prim.gadget(")], "prim::gadget is missing here", "Install"),
    "ours": ([(SUM, "ops.upsnet.sum_all(levels, bias)")], "upsnet::sum_all is missing here", "Update this software"),
    "several": (
        [("torch.sigmoid(", "torch.sigmoidal("), (SUM, "ops.upsnet.sum_all(levels, bias)")],
        "aten::sigmoidal, upsnet::sum_all are missing here",
        "Update this software",
    ),
    "argument": ([("torch.topk(", "torch.topk(7, ")], r"aten::topk takes other arguments here \(Expected", "Install"),
    "keyword": (
        [(SUM, "ops.upsnet.sum_levels(levels, bias, fast=True)")],
        r"upsnet::sum_levels takes other arguments here \(Keyword argument fast unknown\)",
        "Update this software",
    ),
    "number": (
        [(SUM, "ops.upsnet.sum_levels(levels, bias, 2)")],
        r"upsnet::sum_levels takes other arguments here \(Expected at most 2 arguments but found 3",
        "Update this software",
    ),
    "type": ([("mean : Tensor", "mean : Tensoroid")], "Unknown type name 'Tensoroid'", "Install"),
    "syntax": ([("def forward(", "def forward((")], "expected ident but found", "Install"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_an_archive_lacks_here_is_named_with_the_versions(tiny_archive: Path, tmp_path: Path, kind: str) -> None:
    changes, part, advice = UNREADABLE[kind]
    path = rewritten(tiny_archive, tmp_path / "a.pt", *changes)
    with pytest.raises(archive.ArchiveError, match=part) as refusal:
        archive.load(path)
    said = str(refusal.value)
    assert "It was written with torch 2.99.1 and torchvision 0.99.0; " in said
    assert f"here run torch {torch.__version__} and torchvision " in said
    assert advice in said
    assert said.endswith("or export it again from its checkpoint with this software.")
    assert "\n" not in said


def test_a_file_of_a_torch_whose_layout_is_newer_names_it(tiny_archive: Path, tmp_path: Path) -> None:
    path = rewritten(tiny_archive, tmp_path / "a.pt", ("\n", "000\n"), members="/version")
    with pytest.raises(
        archive.ArchiveError, match=r"PyTorch file with version \d+000, .* with torch 2\.99\.1"
    ) as refusal:
        archive.load(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrote", "told"),
    [
        (archive.software(), "Fetch it again, or export"),
        ({}, r"written with torch \(version unknown\) and torchvision \(version unknown\)"),
        (["2.11"], r"written with torch \(version unknown\)"),
        ({"torch": "2.15\n" * 99}, "written with torch 2.15 2.15"),
    ],
    ids=["the same", "none", "no object", "long"],
)
def test_what_wrote_an_archive_is_told_whatever_it_says(
    tiny_archive: Path, tmp_path: Path, wrote: object, told: str
) -> None:
    path = rewritten(tiny_archive, tmp_path / "a.pt", ("def forward(", "def forward(("), wrote=wrote)
    with pytest.raises(archive.ArchiveError, match=told) as refusal:
        archive.load(path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500 + len(str(path))


def test_clients_see_the_name_and_the_start_of_the_digest(tiny_archive: Path) -> None:
    metadata = archive.read_metadata(tiny_archive)
    assert archive.full_name(tiny_archive, metadata) == f"tiny@{archive.sha256(tiny_archive)[:8]}"

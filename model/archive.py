"""The archive: a TorchScript file with its labels, thresholds and provenance inside.

With `export.py` the only file that names torch.jit.
"""

import contextlib
import hashlib
import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from model import ops as ops  # registers the operators an archive may call
from model.interface.metadata import FORMAT_VERSION, Metadata

_METADATA = "metadata.json"


class ArchiveError(Exception):
    """An archive cannot be used; the message is one line and says what to do."""


def save(script: torch.jit.ScriptModule, metadata: Metadata, path: Path) -> None:
    """Write an archive; a file that is there already is replaced in one step."""
    part = path.with_name(path.name + ".part")
    with quiet():
        torch.jit.save(script, str(part), _extra_files={_METADATA: json.dumps(metadata.to_json(), indent=1)})
    part.replace(path)


def read_metadata(path: Path) -> Metadata:
    """The metadata alone, without loading the network.

    Raises:
        ArchiveError: there is no usable archive at the path.
    """
    if path.is_dir():
        raise ArchiveError(f"{path} is a folder; expected an archive. Name the .pt file itself.")
    if not path.exists():
        raise ArchiveError(f"{path} does not exist. Export an archive with `python -m model.export`, or name another.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{_METADATA}")]
            if not names:
                raise ArchiveError(f"{path} holds no metadata. Write it with `python -m model.export`.")
            fields = json.loads(archive.read(names[0]))
        version = fields.get("format_version")
        if version != FORMAT_VERSION:
            raise ArchiveError(
                f"{path} has format version {version}; this software reads {FORMAT_VERSION}. Export it again."
            )
        return Metadata.from_json(fields)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, AttributeError) as error:
        raise ArchiveError(f"{path} is not an archive ({error}). Write one with `python -m model.export`.") from error


def load(path: Path, device: str = "cpu") -> tuple[torch.jit.ScriptModule, Metadata]:
    """The network on a device, its weights in float32, and its metadata.

    The archive runs code: load only what you trust. TorchScript is told not to specialise (in the whole process): it
    would profile two runs and compile for each shape of a picture, while every pass worth fusing is an operator here.

    Raises:
        ArchiveError: there is no usable archive at the path, it is not the one that its manifest lists, or the device
            cannot hold it.
    """
    metadata = read_metadata(path)
    verify(path)  # before any of its code runs
    try:
        with quiet():
            torch.jit.set_fusion_strategy([])
            script = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArchiveError(f"{path} does not load on {device}: {reason}") from error
    cast_weights(script, torch.float32)
    return script.eval(), metadata


def cast_weights(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Change the type of the parameters in place; buffers (means, anchors, frozen norms) stay float32.

    Kernels of convolutions become channels-last, as the features are.
    """
    for parameter in module.parameters():
        layout = torch.channels_last if parameter.dim() == 4 else torch.preserve_format
        parameter.data = parameter.data.to(dtype, memory_format=layout)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path) -> str:
    """The archive's sha256, checked against the `manifest.json` beside it where that lists the file.

    Raises:
        ArchiveError: the file is not the one that the manifest lists.
    """
    digest = sha256(path)
    manifest = path.with_name("manifest.json")
    if manifest.is_file():
        listed = json.loads(manifest.read_text(encoding="utf-8")).get(path.name, {}).get("sha256", digest)
        if listed != digest:
            raise ArchiveError(
                f"{path} has sha256 {digest[:12]}..., its manifest lists {listed[:12]}.... Fetch the file again."
            )
    return digest


def full_name(path: Path, metadata: Metadata) -> str:
    """The archive as clients see it: its name and the first of its digest.

    Raises:
        ArchiveError: the file is not the one that the manifest lists.
    """
    return f"{metadata.name}@{verify(path)[:8]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TorchScript announces its deprecation at each call; this project knows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        yield

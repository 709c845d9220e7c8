"""The archive: a TorchScript file with its labels, thresholds and provenance inside.

No other module calls torch.jit; the network only marks its methods with `torch.jit.export`.
"""

import contextlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from model import ops as ops  # registers the operators an archive may call
from model.interface.archive_file import METADATA, verify, versions
from model.interface.archive_file import ArchiveError as ArchiveError
from model.interface.archive_file import read_metadata as read_metadata
from model.interface.archive_file import sha256 as sha256
from model.interface.failures import is_shortage, one_line
from model.interface.metadata import Metadata
from model.interface.outputs import write

Scripted = torch.jit.ScriptModule
"""A network as an archive holds it."""


def script(network: torch.nn.Module) -> Scripted:
    """A network as TorchScript, unfrozen: its weights can still be cast and moved."""
    with quiet():
        torch.jit.set_fusion_strategy([])  # as `load`: what runs here is what is served
        return torch.jit.script(network)


def sample_picture(height: int = 120, width: int = 160) -> Tensor:
    """(3, height, width) uint8: a smooth pattern with edges, the same each time, to compare networks on."""
    y, x = np.mgrid[0:height, 0:width] / height
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * x * y), np.sign(np.sin(9 * y - 4 * x))]
    return torch.from_numpy(np.stack([np.round(127 * wave + 127) for wave in waves]).astype(np.uint8))


def save(scripted: Scripted, metadata: Metadata, path: Path) -> None:
    """Write an archive; a file that is there already is replaced in one step."""
    content = io.BytesIO()  # where it writes itself, a full disk ends the process
    with quiet():
        torch.jit.save(scripted, content, _extra_files={METADATA: json.dumps(metadata.to_json(), indent=1)})
    write(path, content.getbuffer())


def load(path: Path, device: str = "cpu") -> tuple[Scripted, Metadata]:
    """The network on a device, its weights in float32, and its metadata.

    An archive runs code: load only what you trust. In the whole process, TorchScript stops specialising: it would
    profile two runs and compile for each shape of image, and every pass worth fusing is an operator already.

    Raises:
        ArchiveError: there is no usable archive at the path, its manifest lists another sha256, or it does not load on
            the device: the message then names what is missing, and the versions that wrote it and that run here.
    """
    metadata = read_metadata(path)
    verify(path)  # before any of its code runs
    try:
        with quiet():
            torch.jit.set_fusion_strategy([])
            scripted = torch.jit.load(str(path), map_location=device)
    except Exception as error:  # torch's reader raises errors of many classes
        raise ArchiveError(f"{path} does not load on {device}: {_explain(error, path, metadata, device)}") from error
    cast_weights(scripted, torch.float32)
    return scripted.eval(), metadata


def software() -> dict[str, str]:
    """The versions of torch and torchvision that run here."""
    return {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}


def _explain(error: Exception, path: Path, metadata: Metadata, device: str) -> str:
    """Why torch did not load an archive that is one, and what to do, in one line."""
    said = str(error)
    if is_shortage(error) or not _answers(device):
        return one_line(error)
    names = _missing_operators(path) if "Unknown builtin op" in said else []
    if names:
        what = f"{_some(names)} {'is' if len(names) == 1 else 'are'} missing here"
    elif wrong := re.search(r"^\s*(\w+::\w+)[.\w]*\(.*:\n\s*(.+)", said, re.MULTILINE):
        names, what = [wrong[1]], f"{wrong[1]} takes other arguments here ({wrong[2].rstrip('.')})"
    else:
        what = one_line(error).rstrip(".:")
    wrote, runs = versions(metadata.software), versions(software())
    if any(name.startswith("upsnet::") for name in names):
        advice = "Update this software"
    else:
        advice = "Fetch it again" if wrote == runs else "Install the versions that wrote it"
    return (
        f"{what}. It was written with {wrote}; here run {runs}. {advice}, or export it again from its checkpoint with "
        "this software."
    )


def _some(names: list[str], most: int = 5) -> str:
    """A list in words."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _answers(device: str) -> bool:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def _missing_operators(path: Path) -> list[str]:
    """The operators that an archive's code calls and that are not registered here: torch names only the first."""
    with zipfile.ZipFile(path) as file:
        code = [file.read(name).decode() for name in file.namelist() if name.endswith(".py")]
    called = {found for text in code for found in re.findall(r"(?<![\w.])(?:torch|ops\.(\w+))\.(\w+)\(", text)}
    names = sorted(f"{library or 'aten'}::{name}" for library, name in called)
    return [name for name in names if not torch._C._jit_get_schemas_for_operator(name)]


def cast_weights(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Change the type of the parameters in place; buffers (means, anchors, frozen norms) stay float32.

    The weights of convolutions become channels-last, like the feature maps.
    """
    for parameter in module.parameters():
        layout = torch.channels_last if parameter.dim() == 4 else torch.preserve_format
        parameter.data = parameter.data.to(dtype, memory_format=layout)


def full_name(path: Path, metadata: Metadata) -> str:
    """The model's name as clients see it: the archive's name, `@`, and the start of its sha256.

    Raises:
        ArchiveError: the manifest lists another sha256.
    """
    return f"{metadata.name}@{verify(path)[:8]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the warning that TorchScript is deprecated, which it repeats at each call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        yield

"""An archive as a file: all that can be told of it without torch and without running its code."""

import hashlib
import json
import zipfile
from pathlib import Path

from model.interface.metadata import FORMAT_VERSION, Metadata

METADATA = "metadata.json"
MOST_METADATA_BYTES = 16 << 20
"""More is no metadata, and would be held in memory."""


class ArchiveError(Exception):
    """An archive cannot be used; the message is one line and says what to do."""


def check(path: Path) -> Metadata:
    """The metadata of an archive that is whole, has code, and is the one that its manifest lists, if there is one.

    Raises:
        ArchiveError: it is something else.
    """
    metadata = read_metadata(path)
    verify(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except Exception as error:
        raise _no_archive(path, error) from error
    if damaged is not None:
        raise ArchiveError(f"{path} is damaged ({damaged} does not have its checksum). Fetch it again.")
    if not any("/code/" in name and name.endswith(".py") for name in names):
        raise ArchiveError(f"{path} holds no code. Write it with `python -m model.export`.")
    return metadata


def read_metadata(path: Path) -> Metadata:
    """The metadata alone, without loading the network.

    Raises:
        ArchiveError: there is no usable archive at the path.
    """
    _check_is_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = [each for each in archive.infolist() if each.filename.endswith(f"/extra/{METADATA}")]
            if not found:
                raise ArchiveError(f"{path} holds no metadata. Write it with `python -m model.export`.")
            if found[0].file_size > MOST_METADATA_BYTES:
                raise ValueError(f"{found[0].file_size} bytes of metadata")
            fields = json.loads(archive.read(found[0]))
        _check_version(path, fields)
        return Metadata.from_json(fields)
    except ArchiveError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # what a file can make zipfile, its decompressors and json raise has no common class
        raise _no_archive(path, error) from error


def versions(software: object) -> str:
    """The versions of torch and torchvision among those that metadata hold, in one line whatever they hold."""
    known = software if isinstance(software, dict) else {}
    told = {name: " ".join(str(known.get(name, "(version unknown)")).split())[:40] for name in ("torch", "torchvision")}
    return " and ".join(f"{name} {version}" for name, version in told.items())


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path) -> str:
    """The archive's sha256, checked against the `manifest.json` beside it where that lists the file.

    Raises:
        ArchiveError: the manifest lists another sha256, or cannot be read.
    """
    try:
        digest = sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    manifest = path.with_name("manifest.json")
    if manifest.is_file():
        try:
            listed = _listed(json.loads(manifest.read_text(encoding="utf-8")), path.name) or digest
        except (OSError, ValueError, RecursionError) as error:
            raise ArchiveError(f"{manifest} is not a manifest of archives ({error}). Fetch it again.") from error
        if listed.lower() != digest:
            raise ArchiveError(
                f"{path} has sha256 {digest[:12]}..., its manifest lists {listed[:12]}.... Fetch the file again."
            )
    return digest


def _check_version(path: Path, fields: dict[str, object]) -> None:
    """Raise an ArchiveError for metadata of another format; of a newer one, with what wrote it."""
    version = fields.get("format_version")
    if version == FORMAT_VERSION:
        return
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ArchiveError(
            f"{path} has format version {version!s:.40}; this software reads {FORMAT_VERSION}. A newer one wrote it, "
            f"with {versions(fields.get('software'))}. Update this software, or export again with this one."
        )
    raise ArchiveError(
        f"{path} has format version {version!r:.40}; this software reads {FORMAT_VERSION}. Export it again."
    )


def _listed(manifest: object, name: str) -> str | None:
    """The sha256 that a manifest has for a file; None if it does not list it.

    Raises:
        ValueError: it is no manifest.
    """
    if not isinstance(manifest, dict):
        raise ValueError("expected an object of files")
    if name not in manifest:
        return None
    entry = manifest[name]
    found = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(found, str) or not found:
        raise ValueError(f"{name} has no sha256")
    return found


def _check_is_file(path: Path) -> None:
    """Raise an ArchiveError for what is not there or is no file: a pipe would be waited for."""
    try:
        is_folder, exists, is_file = path.is_dir(), path.exists(), path.is_file()
    except OSError as error:  # a folder that may not be looked into, or a name that is too long
        raise _unreadable(path, error) from error
    if is_folder:
        raise ArchiveError(f"{path} is a folder; expected an archive. Name the .pt file itself.")
    if not exists:
        raise ArchiveError(f"{path} does not exist. Export an archive with `python -m model.export`, or name another.")
    if not is_file:
        raise ArchiveError(f"{path} is no file; expected an archive. Name the .pt file itself.")


def _unreadable(path: Path, error: OSError) -> ArchiveError:
    return ArchiveError(f"{path} cannot be read ({error.strerror or error}). Change its mode, or name another archive.")


def _no_archive(path: Path, error: Exception) -> ArchiveError:
    said = str(error) or type(error).__name__
    return ArchiveError(
        f"{path} is not an archive, or not whole ({said:.120}). Fetch it again, or write one with "
        "`python -m model.export`."
    )

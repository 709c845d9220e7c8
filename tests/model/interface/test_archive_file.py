"""Archives as files: what is no archive, not whole or not the manifest's is refused in one line, without torch."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.interface import archive_file
from model.interface.archive_file import ArchiveError
from tests.paths import DEMO, ROOT

DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
"""Of `hello`."""


def members(path: Path, **contents: Any) -> None:
    """Write a zip; a dict is written as JSON, and `__` stands for a slash."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            text = content if isinstance(content, str) else json.dumps(content)
            file.writestr(name.replace("__", "/"), text)


def with_metadata(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """The demo archive's metadata, changed, in a zip of its own."""

    def write(path: Path) -> None:
        changed = change(archive_file.read_metadata(DEMO).to_json())
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a/extra/metadata.json", changed if isinstance(changed, str) else json.dumps(changed))

    return write


def cut(share: float) -> Callable[[Path], None]:
    """The first part of the demo archive, as a download that broke off."""
    return lambda path: path.write_bytes(DEMO.read_bytes()[: int(share * DEMO.stat().st_size)]) and None


def flip(path: Path) -> None:
    """The demo archive with one wrong byte among its weights."""
    with zipfile.ZipFile(DEMO) as demo:
        largest = max(demo.infolist(), key=lambda each: each.file_size)
    content = bytearray(DEMO.read_bytes())
    content[largest.header_offset + largest.file_size // 2] ^= 1
    path.write_bytes(content)


KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda _: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "pipe": (os.mkfifo, "is no file"),
    "text": (lambda path: path.write_text("hello"), "is not an archive, or not whole"),
    "empty": (lambda path: path.touch(), "is not an archive"),
    "cut": (cut(0.9), "is not an archive, or not whole"),
    "cut at the start": (cut(0.0001), "is not an archive"),
    "a byte wrong": (flip, r"is damaged \(archive/data/\d+ does not have its checksum\)"),
    "bare": (lambda path: members(path, a__data="x"), "holds no metadata"),
    "future": (
        with_metadata(lambda fields: {**fields, "format_version": 99, "software": {"torch": "2.99.1"}}),
        r"has format version 99; this software reads 2\. A newer one wrote it, with torch 2\.99\.1 and",
    ),
    "past": (with_metadata(lambda fields: {**fields, "format_version": 1}), r"format version 1; .* Export it again\.$"),
    "word": (with_metadata(lambda fields: {**fields, "format_version": "x\ny"}), "format version 'x"),
    "no version": (with_metadata(lambda fields: fields.pop("format_version") and fields), "format version None"),
    "list": (with_metadata(lambda _: [1]), "is not an archive"),
    "no JSON": (with_metadata(lambda _: "{"), "is not an archive"),
    "deep": (with_metadata(lambda _: "[" * 100_000), "is not an archive"),
    "nameless": (with_metadata(lambda fields: {**fields, "categories": [{"id": 1}]}), "category .* needs id, name"),
    "no scale": (with_metadata(lambda fields: {**fields, "test_scale": {}}), "test_scale"),
    "no code": (with_metadata(lambda fields: fields), "holds no code"),
    "large": (with_metadata(lambda fields: {**fields, "name": "x" * (17 << 20)}), "bytes of metadata"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_our_archive_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    write, part = KINDS[kind]
    path = tmp_path / "a.pt"
    write(path)
    with pytest.raises(ArchiveError, match=part) as error:
        archive_file.check(path)
    assert "\n" not in str(error.value)


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    for name, part in (("x" * 300, "cannot be read"), ("a\0b", "does not exist")):
        with pytest.raises(ArchiveError, match=part):
            archive_file.check(tmp_path / name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become nobody")
@pytest.mark.parametrize("mode", [(0o600, 0o755), (0o644, 0o700)], ids=["file", "folder"])
def test_what_may_not_be_read_is_refused(tmp_path: Path, mode: tuple[int, int]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = Path(shutil.copy(DEMO, folder))
    path.chmod(mode[0])
    folder.chmod(mode[1])
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(ArchiveError, match=r"cannot be read \(Permission denied\)"):
            archive_file.check(path)
    finally:
        os.seteuid(0)


def test_the_demo_is_an_archive() -> None:
    assert archive_file.check(DEMO).name == "upsnet-camvid-demo"


def test_it_is_read_without_torch() -> None:
    program = (
        "import sys, pathlib; from model.interface import archive_file; archive_file.check(pathlib.Path(sys.argv[1]))"
    )
    program += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, DEMO], cwd=ROOT, check=True)


def test_an_archive_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "copy.pt"
    path.write_bytes(b"hello")
    (tmp_path / "manifest.json").write_text(json.dumps({"copy.pt": {"sha256": "0" * 64}}))
    with pytest.raises(ArchiveError, match="manifest lists 000000000000"):
        archive_file.verify(path)


@pytest.mark.parametrize(
    "listed", [{"copy.pt": {"sha256": DIGEST}}, {"copy.pt": {"sha256": DIGEST.upper()}}, {"other.pt": {"sha256": "0"}}]
)
def test_an_archive_that_the_manifest_lists_or_does_not_name_is_taken(tmp_path: Path, listed: Any) -> None:
    path = tmp_path / "copy.pt"
    path.write_bytes(b"hello")
    (tmp_path / "manifest.json").write_text(json.dumps(listed))
    assert archive_file.verify(path) == archive_file.sha256(path) == DIGEST


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "expected an object of files"),
        ('{"copy.pt": 1}', "copy.pt has no sha256"),
        ('{"copy.pt": null}', "copy.pt has no sha256"),
        ('{"copy.pt": {}}', "copy.pt has no sha256"),
        ('{"copy.pt": {"sha256": ""}}', "copy.pt has no sha256"),
        ('{"copy.pt": {"sha256": 7}}', "copy.pt has no sha256"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ("ÿ", "'utf-8' codec can't decode"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "copy.pt").write_bytes(b"hello")
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArchiveError, match=rf"manifest\.json is not a manifest of archives \({told}"):
        archive_file.verify(tmp_path / "copy.pt")

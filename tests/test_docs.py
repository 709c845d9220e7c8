"""The client pages run as they are written, against the real service on the demo archive."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"UPSNET_PORT": str(port), "UPSNET_DEVICE": "cpu", "UPSNET_API_KEYS": ""}
    service = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env={**os.environ, **settings})
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
            break
        except OSError as error:
            if hasattr(error, "close"):
                error.close()
            assert service.poll() is None
            time.sleep(0.2)
    yield f"127.0.0.1:{port}"
    service.terminate()
    assert service.wait(30) == 0


def run_page(name: str, language: str, command: list[str], suffix: str, address: str, folder: Path) -> str:
    """Run every block of a page; what they print."""
    shutil.copy(ROOT / "service/static/examples/china.jpg", folder / "photo.jpg")
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert blocks
    output = ""
    for i, block in enumerate(blocks):
        script = folder / f"block{i}{suffix}"
        script.write_text(block.replace("localhost:8000", address), encoding="utf-8")
        done = subprocess.run([*command, script.name], cwd=folder, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        output += done.stdout
    return output


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_the_shell_page(address: str, tmp_path: Path) -> None:
    output = run_page("curl.md", "sh", ["sh", "-e"], ".sh", address, tmp_path)
    assert re.search(r"^\d+ segments$", output, re.MULTILINE)
    assert "panoptic.json" in output
    assert (tmp_path / "overlay.png").read_bytes() != (tmp_path / "ids.png").read_bytes()


def test_the_python_page(address: str, tmp_path: Path) -> None:
    assert "sky" in run_page("python.md", "python", [sys.executable], ".py", address, tmp_path)


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_the_javascript_page(address: str, tmp_path: Path) -> None:
    assert "sky" in run_page("javascript.md", "js", ["node"], ".mjs", address, tmp_path)
    assert (tmp_path / "ids.png").read_bytes().startswith(b"\x89PNG")

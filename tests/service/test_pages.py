"""The pages: complete, strict, and without a request to anywhere else."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings

STATIC = Path(__file__).parents[2] / "service/static"
ELSEWHERE = re.compile(r"(?:src|srcset|action|data-example)=\"https?://|url\(https?:|import .*https?:|fetch\(\"https?:")


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(Settings(), predictor=object()))  # not started: pages need no archive


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_is_strict_and_every_file_it_names_exists(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    files = re.findall(r'(?:src|href|data-example)="((?:static|swagger)/[^"]+)"', page.text)
    assert len(files) >= 4
    for file in files:
        assert client.get(f"/{file}").status_code == 200, file
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", page.text)


def test_no_file_asks_anyone_else() -> None:
    for file in STATIC.glob("*.*"):
        if file.suffix in (".html", ".js", ".css"):
            assert not ELSEWHERE.search(file.read_text(encoding="utf-8")), file.name
            assert '<link rel="stylesheet" href="http' not in file.read_text(encoding="utf-8")

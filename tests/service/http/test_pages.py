"""The pages: complete, strict, and without a request to anywhere else."""

import re

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.paths import ROOT

STATIC = ROOT / "service/static"
ELSEWHERE = re.compile(r"(?:src|srcset|action|data-example)=\"https?://|url\(https?:|import .*https?:|fetch\(\"https?:")


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(Settings()))  # not started: pages need no archive


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


def test_files_of_this_version_are_kept_and_others_are_asked_for_each_time(client: TestClient) -> None:
    page = client.get("/")
    script = re.findall(r'src="(static/[0-9a-f]{12}/app\.js)"', page.text)[0]
    assert page.headers["cache-control"] == "no-store"
    kept = client.get(f"/{script}")
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get(f"/{script.replace('app', 'view')}").headers["cache-control"] == kept.headers["cache-control"]
    of_another_replica = client.get("/static/0123456789ab/app.js")
    for answer in (of_another_replica, client.get("/static/app.js")):
        assert answer.content == kept.content
        assert answer.headers["cache-control"] == "no-cache"
    assert client.get("/static/app.js", headers={"If-None-Match": kept.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/static/index.html", "/static/docs.html"])
def test_a_page_below_static_is_as_strict(client: TestClient, path: str) -> None:
    assert "frame-ancestors 'none'" in client.get(path).headers["content-security-policy"]


def test_nothing_is_found_beside_the_files(client: TestClient) -> None:
    for path in ("/static/0123456789ab/../app.py", "/static/%2e%2e/app.py", "/static/0123456789ab/%2e%2e/app.py"):
        assert client.get(path).status_code == 404

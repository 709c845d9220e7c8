"""`POST /panoptic`, with a predictor of a few lines in place of the network."""

import base64
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from model.interface.panoptic import Panoptic
from tests.paths import SHARED
from tests.service.halves import TopAndBottom, ids_of, photo, settings
from tests.service.in_process import serving

PHOTOS = SHARED / "data/photos"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with serving(settings(tmp_path), TopAndBottom(), raise_server_exceptions=False) as client:
        yield client


def test_json_answer_holds_the_png_and_adds_up(client: TestClient) -> None:
    answer = client.post("/panoptic", files={"image": ("a.png", photo())})
    assert answer.status_code == 200
    body = answer.json()
    assert body["image"] == {"width": 6, "height": 4}
    assert body["segments_info"][0] == {
        "id": 1,
        "category_id": 26,
        "category": "car",
        "isthing": True,
        "score": 0.9,
        "area": 12,
        "bbox": [0, 0, 6, 2],
        "iscrowd": 0,
    }
    assert sum(segment["area"] for segment in body["segments_info"]) + body["void_area"] == 24
    ids = ids_of(base64.b64decode(body["png"]))
    assert ids.shape == (4, 6)
    assert set(np.unique(ids)) == {1, 2}
    assert answer.headers["x-request-id"] == body["request_id"]
    assert [part.split(";")[0].strip() for part in answer.headers["server-timing"].split(",")] == [
        "decode",
        "queue",
        "infer",
        "encode",
    ]


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", None])
def test_the_bytes_decide_whatever_the_type_says(client: TestClient, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/panoptic", content=photo(), headers=headers).status_code == 200


def test_png_answer_carries_the_json(client: TestClient) -> None:
    answer = client.post("/panoptic", content=photo(), headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (6, 4)
    facts = json.loads(image.text["panoptic"])
    assert {segment["id"] for segment in facts["segments_info"]} == set(np.unique(ids_of(answer.content)))
    assert "png" not in facts


def test_multipart_answer_has_two_parts(client: TestClient) -> None:
    answer = client.post("/panoptic", content=photo(), headers={"Accept": "multipart/mixed"})
    kind, boundary = answer.headers["content-type"].split("; boundary=")
    assert kind == "multipart/mixed"
    _, first, second, end = answer.content.split(b"--" + boundary.encode())
    assert json.loads(first.split(b"\r\n\r\n", 1)[1])["image"]["width"] == 6
    assert ids_of(second.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")).shape == (4, 6)
    assert end == b"--\r\n"


def test_zip_answer_is_a_panoptic_folder(client: TestClient) -> None:
    answer = client.post("/panoptic", content=photo(), headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        folder = json.loads(archive.read("panoptic.json"))
        ids = ids_of(archive.read("panoptic/image.png"))
    assert {segment["id"] for segment in folder["annotations"][0]["segments_info"]} == set(np.unique(ids))
    assert {label["id"] for label in folder["categories"]} == {7, 26}


def test_overlay_is_a_picture_of_the_photos_size(client: TestClient) -> None:
    answer = client.post("/panoptic?view=overlay", content=photo(200, 100), headers={"Accept": "image/png"})
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (200, 100)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"content": b""}, 400, "malformed_body"),
        ({"content": b"hello"}, 415, "unsupported_image"),
        ({"content": photo()[:-30]}, 422, "invalid_image"),
        ({"content": photo(3000, 2000)}, 413, "image_too_large"),
        ({"content": b"x" * 70_000}, 413, "body_too_large"),
        ({"content": iter([b"x" * 40_000, b"x" * 40_000])}, 413, "body_too_large"),
        ({"files": {"photo": photo()}}, 400, "malformed_body"),
        ({"content": b"--b", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "malformed_body"),
        ({"content": b"--b", "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed_body"),
        ({"content": photo(), "headers": {"Accept": "text/html"}}, 406, "not_acceptable"),
        ({"content": photo(), "params": {"view": "x"}}, 400, "bad_request"),
        ({"content": photo(), "params": {"scale": "2"}}, 400, "bad_request"),
        ({"content": photo(), "headers": {"X-Deadline-Ms": "soon"}}, 400, "bad_request"),
    ],
)
def test_refusals_are_problems_and_are_counted(tmp_path: Path, change: dict[str, Any], status: int, code: str) -> None:
    limits = settings(tmp_path, max_bytes=60_000, max_pixels=1_000_000)
    with serving(limits, TopAndBottom()) as client:
        answer = client.post("/panoptic", **change)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert (body["status"], body["code"]) == (status, code)
        assert body["detail"].endswith(".")
        assert body["request_id"] == answer.headers["x-request-id"]
        assert f'upsnet_requests_total{{code="{code}",status="{status}"}} 1.0' in client.get("/metrics").text
        assert 'upsnet_images_total{outcome="invalid"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/panoptic", 405), ("GET", "/nowhere", 404)])
def test_unknown_routes_and_methods_are_problems(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_defect_says_nothing_internal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TopAndBottom):
        def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
            raise ValueError(f"secret path /etc, {len(images)} images")

    with serving(settings(tmp_path), Broken()) as client:
        answer = client.post("/panoptic", content=photo())
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photos: name the folder above them in UPSNET_SHARED")
@pytest.mark.parametrize("path", ["/panoptic", "/panoptic?view=overlay"])
def test_every_awkward_photo_is_answered_as_its_manifest_says(client: TestClient, path: str) -> None:
    for entry in json.loads((PHOTOS / "manifest.json").read_text()):
        content = (PHOTOS / entry["file"]).read_bytes()
        answer = client.post(path, files={"image": (entry["file"], content, "image/jpeg")})
        allowed = str(entry["status"]).replace("4xx", "415|422").split("|")
        assert str(answer.status_code) in allowed, entry["file"]
        if answer.status_code == 200:
            body = answer.json()
            assert [body["image"]["width"], body["image"]["height"]] == entry["expect_size"], entry["file"]
            assert ids_of(base64.b64decode(body["png"])).shape[::-1] == tuple(entry["expect_size"]), entry["file"]


def test_request_id_is_kept_where_it_is_a_word(client: TestClient) -> None:
    kept = client.post("/panoptic", content=photo(), headers={"X-Request-ID": "abc-1"})
    made = client.post("/panoptic", content=photo(), headers={"X-Request-ID": "a b\tc"})
    assert kept.headers["x-request-id"] == "abc-1"
    assert len(made.headers["x-request-id"]) == 32


def test_a_key_is_needed_where_keys_are_set(tmp_path: Path) -> None:
    with serving(settings(tmp_path, api_keys="one,two"), TopAndBottom()) as client:
        assert client.post("/panoptic", content=photo()).status_code == 401
        assert client.post("/panoptic", content=photo(), headers={"X-API-Key": "three"}).status_code == 401
        assert client.post("/panoptic", content=photo(), headers={"X-API-Key": "two"}).status_code == 200
        assert client.get("/model", headers={"Authorization": "Bearer one"}).status_code == 200
        either = {"Authorization": "Bearer three", "X-API-Key": "two"}
        assert client.get("/model", headers=either).status_code == 200
        assert client.get("/model").status_code == 401
        assert client.get("/health/ready").status_code == 200


def test_a_deadline_that_cannot_be_met_is_refused(tmp_path: Path) -> None:
    class Slow(TopAndBottom):
        def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
            time.sleep(0.3)
            return super().predict(images)

    with serving(settings(tmp_path), Slow()) as client:
        answer = client.post("/panoptic", content=photo(), headers={"X-Deadline-Ms": "50"})
        assert answer.status_code == 504
        assert 'upsnet_images_total{outcome="expired"} 1.0' in client.get("/metrics").text

"""The HTTP interface, with a predictor of a few lines in place of the network."""

import base64
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from model.interface.categories import Category
from model.interface.panoptic import Panoptic, Segment
from service.app import create_app
from service.settings import Settings
from tests.paths import SHARED

PHOTOS = SHARED / "data/photos"
LABELS = (Category(7, "road", False, (128, 64, 128)), Category(26, "car", True, (0, 0, 142)))


class TopAndBottom:
    """Answers that the upper half is a car and the lower half road."""

    device, precision, kernel, model_name = "cpu", "float32", "none", "halves@00000000"
    metadata = SimpleNamespace(categories=LABELS, to_json=lambda: {"name": "halves"})

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def warm_up(self, sizes: Any) -> None:
        pass

    def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
        return [self.answer(*image.shape[:2]) for image in images]

    def answer(self, height: int, width: int) -> Panoptic:
        ids = np.full((height, width), 2, np.uint8)
        ids[: height // 2] = 1
        things = height // 2
        road = Segment(2, 7, "road", False, 0.5, (height - things) * width, (0, things, width, height - things))
        car = Segment(1, 26, "car", True, 0.9, things * width, (0, 0, width, things))
        return Panoptic(ids, (car, road) if things else (road,))


def settings(tmp_path: Path, **changes: Any) -> Settings:
    archive = tmp_path / "archive.pt"
    archive.write_bytes(b"not read")
    return Settings(model=archive, **changes)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings(tmp_path), TopAndBottom()), raise_server_exceptions=False) as client:
        yield client


def photo(width: int = 6, height: int = 4, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(buffer, form)
    return buffer.getvalue()


def ids_of(png: bytes) -> np.ndarray:
    rgb = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


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
    with TestClient(create_app(limits, TopAndBottom())) as client:
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

    with TestClient(create_app(settings(tmp_path), Broken())) as client:
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
    with TestClient(create_app(settings(tmp_path, api_keys="one,two"), TopAndBottom())) as client:
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
            import time

            time.sleep(0.3)
            return super().predict(images)

    with TestClient(create_app(settings(tmp_path), Slow())) as client:
        answer = client.post("/panoptic", content=photo(), headers={"X-Deadline-Ms": "50"})
        assert answer.status_code == 504
        assert 'upsnet_images_total{outcome="expired"} 1.0' in client.get("/metrics").text


def test_draining_refuses_work_and_stays_alive(client: TestClient) -> None:
    client.app.state.engine.draining = True  # type: ignore[attr-defined]
    answer = client.post("/panoptic", content=photo())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, "The service is stopping.")
    assert client.get("/health/live").status_code == 200


def test_what_is_served_is_named_with_its_kernel(client: TestClient) -> None:
    facts = {"device": "cpu", "precision": "float32", "kernel": "none"}
    served = client.get("/model").json()
    assert {name: served[name] for name in ("model", *facts)} == {"model": "halves@00000000", **facts}
    metric = 'upsnet_model_info{device="cpu",kernel="none",name="halves@00000000",precision="float32"} 1.0'
    assert metric in client.get("/metrics").text


def test_docs(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"400", "401", "406", "408", "413", "415", "422", "429", "503", "504"} <= set(
        paths["/panoptic"]["post"]["responses"]
    )


def test_metrics_give_what_alerts_compare_with(client: TestClient) -> None:
    def value(name: str) -> float:
        return float(
            next(line.split()[1] for line in client.get("/metrics").text.splitlines() if line.startswith(name))
        )

    assert (value("upsnet_ready"), value("upsnet_queue_limit_images"), value("upsnet_deadline_seconds")) == (1, 64, 30)
    client.app.state.engine.draining = True  # type: ignore[attr-defined]
    assert value("upsnet_ready") == 0


def test_metrics_count_what_is_under_way(tmp_path: Path) -> None:
    begun, over = threading.Event(), threading.Event()

    class Held(TopAndBottom):
        def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
            begun.set()
            assert over.wait(10)
            return super().predict(images)

    with TestClient(create_app(settings(tmp_path), Held())) as client:

        def values() -> list[float]:
            lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
            return [float(lines[f"upsnet_{name}"]) for name in ("inflight_requests", "queue_pixels", "queue_images")]

        poster = threading.Thread(target=client.post, args=("/panoptic",), kwargs={"content": photo(6, 4)})
        poster.start()
        assert begun.wait(10)
        assert values() == [1, 24, 0]
        assert client.get("/health").json()["queue_images"] == 0
        over.set()
        poster.join()
        assert values() == [0, 0, 0]

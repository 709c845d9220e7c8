"""The examples at /docs are what the service says."""

import base64
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model.interface import codec
from model.interface.panoptic import Panoptic
from service.app import create_app
from service.http import openapi
from service.http.forms import MEDIA_TYPES
from service.http.schemas import PanopticResponse
from tests.service.halves import TopAndBottom, ids_of, photo, settings
from tests.service.in_process import serving


class Broken(TopAndBottom):
    def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
        time.sleep(0.2)
        raise ValueError(f"{len(images)} images")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with serving(settings(tmp_path, max_queue=2), Broken()) as client:
        yield client


def examples(client: TestClient) -> dict[str, Any]:
    described = client.get("/openapi.json").json()["paths"]["/panoptic"]["post"]["responses"]
    return {status: next(iter(answer["content"].values()))["example"] for status, answer in described.items()}


def test_nothing_is_encoded_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(codec, "encode_png")
    importlib.reload(openapi)


def test_docs_name_every_form_and_every_status_of_an_error() -> None:
    answers = openapi.answers()
    assert tuple(answers[200]["content"]) == MEDIA_TYPES
    assert list(answers) == [200, 400, 401, 406, 408, 413, 415, 422, 429, 500, 503, 504]
    assert list(openapi.refusals(503, 401)) == [401, 503]


def test_the_parameters_are_those_that_are_read() -> None:
    parameters = {each["name"]: each for each in openapi.request_parts(12_345)["parameters"]}
    assert set(parameters) == {"view", "X-Deadline-Ms"}
    assert parameters["view"]["schema"] == {"type": "string", "enum": ["ids", "overlay"], "default": "ids"}
    assert parameters["X-Deadline-Ms"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 12_345}


def test_the_largest_deadline_is_the_services(tmp_path: Path) -> None:
    client = TestClient(create_app(settings(tmp_path, deadline_ms=4_321)))
    (deadline,) = (
        each
        for each in client.get("/openapi.json").json()["paths"]["/panoptic"]["post"]["parameters"]
        if each["name"] == "X-Deadline-Ms"
    )
    assert deadline["schema"]["maximum"] == 4_321


def test_the_example_of_an_answer_is_one() -> None:
    example = openapi.answers()[200]["content"]["application/json"]["example"]
    answer = PanopticResponse.model_validate(example, strict=False)
    ids = ids_of(base64.b64decode(answer.png or ""))
    assert ids.shape == (answer.image.height, answer.image.width)
    assert (ids == 0).sum() == answer.void_area
    for segment in answer.segments_info:
        rows, columns = np.nonzero(ids == segment.id)
        x, y, width, height = segment.bbox
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert segment.area == len(rows)


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"params": {"view": "x"}}),
        (406, {"headers": {"Accept": "text/html"}}),
        (413, {"content": bytes(20_000_001)}),
        (415, {"content": b"hello"}),
        (422, {"content": photo()[:-30]}),
        (429, {}),
        (500, {}),
        (503, {}),
        (504, {"headers": {"X-Deadline-Ms": "50"}}),
    ],
)
def test_the_example_of_a_refusal_is_what_is_said(client: TestClient, status: int, request_: dict[str, Any]) -> None:
    engine = client.app.state.engine  # type: ignore[attr-defined]
    if status == 429:
        for _ in range(2):
            engine.admission.reserve()
    if status == 503:
        client.portal.call(engine.drain, 0.0)  # type: ignore[union-attr]
    answer = client.post("/panoptic", **{"content": photo(), **request_})
    assert answer.status_code == status
    said, example = ({**body, "request_id": ""} for body in (answer.json(), examples(client)[str(status)]))
    if status == 429:
        said["detail"], example["detail"] = (re.sub(r"\d+", "N", body["detail"]) for body in (said, example))
    assert said == example


def test_the_example_of_a_missing_key_is_what_is_said(tmp_path: Path) -> None:
    client = TestClient(create_app(settings(tmp_path, api_keys="one")))
    answer = client.post("/panoptic", content=photo())
    assert {**answer.json(), "request_id": ""} == {**examples(client)["401"], "request_id": ""}

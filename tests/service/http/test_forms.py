"""Each form of an answer, read as its clients read it, and what the forms have in common."""

import base64
import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.http.forms import BOUNDARY, FORMS, MEDIA_TYPES, AnswerForm, Json, Multipart, Png, Zip

CAR = {"id": 1, "category_id": 26, "category": "car", "isthing": True, "score": 0.9, "area": 2, "bbox": (0, 0, 2, 1)}
ROAD = {"id": 2, "category_id": 7, "category": "road", "isthing": False, "score": 0.5, "area": 1, "bbox": (0, 1, 1, 1)}
FACTS = {"image": {"width": 2, "height": 2}, "segments_info": [CAR, ROAD], "void_area": 1, "request_id": "é"}
IDS = np.array([[1, 1], [2, 0]], np.uint8)
READ = json.loads(json.dumps(FACTS))


def red(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))[..., 0].tolist()


def test_json_has_the_png_in_it() -> None:
    read = json.loads(Json().build(FACTS, IDS))
    assert red(base64.b64decode(read.pop("png"))) == IDS.tolist()
    assert read == READ


def test_png_has_the_json_in_it() -> None:
    png = Png().build(FACTS, IDS)
    assert red(png) == IDS.tolist()
    assert json.loads(Image.open(io.BytesIO(png)).text["panoptic"]) == READ


def test_multipart_has_the_json_and_then_the_png() -> None:
    assert Multipart().content_type == f"multipart/mixed; boundary={BOUNDARY}"
    before, first, second, end = Multipart().build(FACTS, IDS).split(b"--" + BOUNDARY.encode())
    assert (before, end) == (b"", b"--\r\n")
    assert first.startswith(b"\r\nContent-Type: application/json\r\n\r\n")
    assert json.loads(first.split(b"\r\n\r\n", 1)[1]) == READ
    assert second.startswith(b"\r\nContent-Type: image/png\r\n\r\n")
    assert red(second.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")) == IDS.tolist()


def test_zip_is_a_panoptic_folder_of_one_image() -> None:
    with zipfile.ZipFile(io.BytesIO(Zip().build(FACTS, IDS))) as archive:
        assert archive.namelist() == ["panoptic.json", "panoptic/image.png"]
        folder = json.loads(archive.read("panoptic.json"))
        assert red(archive.read("panoptic/image.png")) == IDS.tolist()
    assert folder["images"] == [{"id": 1, "file_name": "image.jpg", "width": 2, "height": 2}]
    assert folder["annotations"] == [
        {"image_id": 1, "file_name": "image.png", "segments_info": READ["segments_info"]},
    ]
    assert folder["categories"] == [{"id": 7, "name": "road", "isthing": 0}, {"id": 26, "name": "car", "isthing": 1}]


def test_an_image_of_nothing_has_an_answer_in_every_form() -> None:
    nothing = {"image": {"width": 1, "height": 1}, "segments_info": [], "void_area": 1}
    for form in FORMS:
        assert form.build(nothing, np.zeros((1, 1), np.uint8))


@pytest.mark.parametrize("form", FORMS, ids=MEDIA_TYPES)
def test_the_picture_may_be_in_colour(form: AnswerForm) -> None:
    colours = np.full((2, 2, 3), (10, 20, 30), np.uint8)
    ids, picture = form.build(FACTS, IDS), form.build(FACTS, colours)
    assert ids != picture
    if isinstance(form, Png):
        assert Image.open(io.BytesIO(picture)).getpixel((1, 1)) == (10, 20, 30)


def test_media_types_differ_and_begin_the_content_types() -> None:
    assert len(set(MEDIA_TYPES)) == len(FORMS)
    for form in FORMS:
        assert form.content_type.split(";")[0] == form.media_type


def test_each_form_is_described_by_an_example_or_as_bytes() -> None:
    described = {form.media_type: form.describe(FACTS, IDS) for form in FORMS}
    assert {**described.pop("application/json")["example"], "png": ""} == {**READ, "png": ""}
    for media_type, content in described.items():
        assert content["schema"]["format"] == "binary", media_type
        assert content["schema"]["description"], media_type

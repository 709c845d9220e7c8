"""What all answers share, and how they are sent."""

import asyncio
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from model.interface.panoptic import Panoptic, Segment
from service.http.body import Uploads
from service.http.forms import FORMS, Png
from service.http.responses import SENT_AT_ONCE_BYTES, CountedResponse, build, describe

CAR = Segment(1, 26, "car", True, 0.9, area=3, bbox=(0, 0, 3, 1))
TOP = Panoptic(np.array([[1, 1, 1], [0, 0, 0]], np.uint8), (CAR,))


def test_facts_are_those_of_the_segmentation_and_of_the_request() -> None:
    assert describe(TOP, "halves@0", "abc") == {
        "image": {"width": 3, "height": 2},
        "segments_info": [
            {
                "id": 1,
                "category_id": 26,
                "category": "car",
                "isthing": True,
                "score": 0.9,
                "area": 3,
                "bbox": (0, 0, 3, 1),
                "iscrowd": 0,
            }
        ],
        "void_area": 3,
        "model": "halves@0",
        "request_id": "abc",
    }


def picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_the_picture_is_the_map_of_ids_or_with_a_photo_its_overlay() -> None:
    photo = np.full((2, 3, 3), 200, np.uint8)
    ids = picture(build(Png(), TOP, "halves@0", "abc"))
    overlay = picture(build(Png(), TOP, "halves@0", "abc", photo, {26: (0, 0, 142)}))
    assert np.asarray(ids)[..., 0].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert ids.size == overlay.size == (3, 2)
    assert np.asarray(overlay)[0, 1].tolist() != np.asarray(overlay)[1, 1].tolist()  # the car is coloured
    assert np.asarray(overlay)[0, 1].tolist() != [1, 0, 0]
    assert json.loads(ids.text["panoptic"]) == json.loads(overlay.text["panoptic"])


def test_every_form_repeats_the_requests_id() -> None:
    for form in FORMS:
        body = build(form, TOP, "halves@0", "abc-1")
        assert (b"abc-1" in body) is (form.media_type != "application/zip"), form.media_type


def test_an_answer_is_sent_in_pieces_and_counted_until_the_last_is_taken() -> None:
    uploads = Uploads(max_bytes=1)
    content = bytes(SENT_AT_ONCE_BYTES) + b"end"
    sent: list[dict[str, Any]] = []
    held: list[int] = []

    async def send(message: Any) -> None:
        sent.append(message)
        held.append(uploads.held)

    response = CountedResponse(uploads, content, {"Vary": "Accept"}, "image/png")
    asyncio.run(response({"type": "http"}, None, send))  # type: ignore[arg-type]
    start, *pieces = sent
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-length"] == str(len(content)).encode()
    assert {(b"vary", b"Accept"), (b"content-type", b"image/png")} <= set(start["headers"])
    assert [(len(piece["body"]), piece["more_body"]) for piece in pieces] == [(SENT_AT_ONCE_BYTES, True), (3, False)]
    assert b"".join(piece["body"] for piece in pieces) == content
    assert held == [0, len(content), len(content)]
    assert uploads.held == 0


def test_an_answer_that_cannot_be_sent_is_not_counted_any_more() -> None:
    uploads = Uploads(max_bytes=1)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    async def scenario() -> None:
        try:
            await CountedResponse(uploads, b"body", {}, "image/png")({"type": "http"}, None, send)  # type: ignore[arg-type]
        except OSError:
            assert uploads.held == 0
        else:
            raise AssertionError

    asyncio.run(scenario())

"""What /docs says: the body of POST /panoptic, each answer and each error with a true example."""

from typing import Any

import numpy as np

from model.interface import codec
from model.interface.panoptic import Panoptic, Segment
from service.errors import (
    BodyError,
    DeadlineExceededError,
    ImageRefusedError,
    InternalError,
    NotReadyError,
    QueueFullError,
    RequestError,
    ServiceError,
)
from service.http import problems, responses
from service.http.forms import FORMS, MEDIA_TYPES
from service.http.request import DEADLINE_HEADER, VIEWS
from service.http.schemas import Health, PanopticResponse, Problem

Described = dict[int | str, dict[str, Any]]
"""Answers by status, as FastAPI's `responses` takes them."""
REQUEST_ID = "7d0c4b5e"
ANSWER = (
    "The segmentation, in the form that Accept asks for. The example has classes of the demo archive; GET /model lists "
    "those of the archive that is served"
)
DEADLINE = "give up after so many milliseconds; a number above the service's own deadline counts as that"


def request_parts(deadline_ms: int) -> dict[str, Any]:
    """The body and the parameters of POST /panoptic.

    Args:
        deadline_ms: the service's own; clients can only shorten it.
    """
    formats = f"{', '.join(codec.FORMATS[:-1])} or {codec.FORMATS[-1]}"
    image = {"type": "string", "format": "binary", "minLength": 1, "description": formats}
    form = {"type": "object", "required": ["image"], "properties": {"image": image}}
    view = {"type": "string", "enum": list(VIEWS), "default": VIEWS[0]}
    deadline = {"type": "integer", "minimum": 1, "maximum": deadline_ms}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "application/octet-stream": {"schema": image}},
        },
        "parameters": [
            {"name": "view", "in": "query", "schema": view, "description": "overlay: a picture over the photo"},
            {"name": DEADLINE_HEADER, "in": "header", "schema": deadline, "description": DEADLINE},
        ],
    }


def answers() -> Described:
    """Every answer to POST /panoptic."""
    example = segmentation()
    facts = responses.describe(example, "upsnet-camvid-demo@bbca5c40", REQUEST_ID)
    good = {
        "model": PanopticResponse,
        "description": ANSWER,
        "content": {form.media_type: form.describe(facts, example.segment_ids) for form in FORMS},
    }
    return {200: good, **refusals()}


def segmentation() -> Panoptic:
    """A photo of 4 x 3 pixels: a car on a road, and one pixel of neither."""
    car = Segment(1, 9, "car", True, 0.98, area=4, bbox=(1, 1, 2, 2))
    road = Segment(2, 4, "road", False, 0.91, area=7, bbox=(0, 0, 4, 3))
    return Panoptic(np.array([[2, 2, 2, 2], [2, 1, 1, 2], [2, 1, 1, 0]], np.uint8), (car, road))


def refusals(*statuses: int) -> Described:
    """Errors of POST /panoptic, each with an example; those of all statuses if none is named."""
    return {
        error.status: {
            "description": error.title,
            "headers": {"Retry-After": _retry_after()} if error.retry_after else {},
            "content": {
                "application/problem+json": {
                    "schema": Problem.model_json_schema(),
                    "example": problems.describe(error, REQUEST_ID).model_dump(),
                }
            },
        }
        for error in errors()
        if not statuses or error.status in statuses
    }


def errors() -> list[ServiceError]:
    """One error of each status, with the limits of the settings' defaults."""
    cut = codec.encode_png(segmentation().segment_ids)[:-30]
    return [
        RequestError.unknown_query("view=x", (f"view={view}" for view in VIEWS)),
        RequestError.key_missing(),
        RequestError.not_acceptable("text/html", MEDIA_TYPES),
        BodyError.too_slow(10),
        BodyError.too_large(20_000_000),
        ImageRefusedError(415, _refused_by_codec(b"hello")),
        ImageRefusedError(422, _refused_by_codec(cut)),
        QueueFullError(3),
        InternalError(),
        NotReadyError.for_now(NotReadyError.STOPPING),
        DeadlineExceededError.of_client(50, 30_000),
    ]


def not_ready() -> Described:
    """What /health says of a service that takes no work."""
    example = Health(live=True, ready=False, reason=NotReadyError.LOADING).model_dump()
    return {
        503: {
            "model": Health,
            "description": "Not ready, and why",
            "content": {"application/json": {"example": example}},
        }
    }


def _refused_by_codec(content: bytes) -> str:
    try:
        codec.decode(content, max_pixels=100)
    except codec.ImageError as error:
        return str(error)
    raise AssertionError("The codec takes what should be an example of what it refuses. This is a bug.")


def _retry_after() -> dict[str, Any]:
    return {"schema": {"type": "integer", "minimum": 1}, "description": "seconds until trying again makes sense"}

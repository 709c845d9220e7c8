"""The OpenAPI page: the body of POST /panoptic, each answer and each error with a true example."""

import json
from typing import Any

import numpy as np
from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer

from model.interface.codec import FORMATS
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
from service.http import responses
from service.http.negotiation import FORMS
from service.http.schemas import Health, PanopticResponse, Problem

IMAGE = {"type": "string", "format": "binary", "minLength": 1, "description": "JPEG, PNG, WebP, BMP, TIFF, MPO or GIF"}
BINARY = {"type": "string", "format": "binary"}
FORM = {"type": "object", "required": ["image"], "properties": {"image": IMAGE}}
VIEW = {"type": "string", "enum": ["ids", "overlay"], "default": "ids"}
SECONDS = {"schema": {"type": "integer", "minimum": 1}, "description": "seconds until trying again makes sense"}
DEADLINE = {"type": "integer", "minimum": 1, "maximum": 999_999_999}

PANOPTIC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": FORM}, "application/octet-stream": {"schema": IMAGE}},
    },
    "parameters": [
        {"name": "view", "in": "query", "schema": VIEW, "description": "overlay: a picture over the photo"},
        {"name": "X-Deadline-Ms", "in": "header", "schema": DEADLINE, "description": "give up after this long"},
    ],
}

REQUEST_ID = "7d0c4b5e"
CAR = Segment(1, 9, "car", True, 0.98, area=4, bbox=(1, 1, 2, 2))
ROAD = Segment(2, 4, "road", False, 0.91, area=7, bbox=(0, 0, 4, 3))
ANSWERED = Panoptic(np.array([[2, 2, 2, 2], [2, 1, 1, 2], [2, 1, 1, 0]], np.uint8), (CAR, ROAD))
ANSWER = json.loads(responses.build(FORMS[0], ANSWERED, "upsnet-camvid-demo@0a0ecb11", REQUEST_ID).content)
"""To a photo of 4 x 3 pixels, and true to the last byte of its PNG."""

REFUSALS: list[ServiceError] = [
    RequestError(400, "Unknown query view=x. The only one is view=ids or view=overlay."),
    RequestError(401, "This service needs a key. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."),
    RequestError(406, f"Accept: text/html names no form of this answer. Accept one of {', '.join(FORMS)}."),
    BodyError(408, "The body did not arrive within 10 s. Send it faster."),
    BodyError(413, "The image has more than 20000000 bytes. Send a smaller file or raise UPSNET_MAX_BYTES."),
    ImageRefusedError(415, f"Not an image in an accepted format. Send one of {', '.join(FORMATS)}."),
    ImageRefusedError(422, "The image cannot be decoded: it is truncated or damaged. Send the whole file."),
    QueueFullError(3),
    InternalError(),
    NotReadyError("The service is stopping. Try again soon."),
    DeadlineExceededError(),
]


def _example(error: ServiceError) -> dict[str, Any]:
    return Problem(
        title=error.title, status=error.status, detail=error.detail, code=error.code, request_id=REQUEST_ID
    ).model_dump()


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of errors, each with an example."""
    return {
        error.status: {
            "description": error.title,
            "headers": {"Retry-After": SECONDS} if error.retry_after else {},
            "content": {
                "application/problem+json": {"schema": Problem.model_json_schema(), "example": _example(error)}
            },
        }
        for error in REFUSALS
        if error.status in statuses
    }


def key_schemes(keys: tuple[str, ...]) -> list[Any]:
    """The ways to send a key, where one is needed: /docs asks for it. The route itself compares it."""
    if not keys:
        return []
    return [Security(APIKeyHeader(name="X-API-Key", auto_error=False)), Security(HTTPBearer(auto_error=False))]


NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {
        "model": Health,
        "description": "Not ready, and why",
        "content": {
            "application/json": {"example": Health(live=True, ready=False, reason="The model is loading.").model_dump()}
        },
    }
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": PanopticResponse,
        "description": "The segmentation, in the form that Accept asks for",
        "content": {
            "application/json": {"example": ANSWER},
            "image/png": {
                "schema": {
                    **BINARY,
                    "description": "the map of ids or the overlay; the JSON without `png` in its iTXt chunk `panoptic`",
                }
            },
            "multipart/mixed": {"schema": {**BINARY, "description": "the JSON without `png`, then the PNG"}},
            "application/zip": {
                "schema": {
                    **BINARY,
                    "description": "`panoptic.json` and `panoptic/image.png`, as panopticapi reads them",
                }
            },
        },
    },
    **refusals(*(error.status for error in REFUSALS)),
}

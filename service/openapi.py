"""The OpenAPI page: the body of POST /panoptic, each answer and each error with a true example."""

from typing import Any

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer

from model.codec import FORMATS
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
from service.schemas import Health, PanopticResponse, Problem

IMAGE = {"type": "string", "format": "binary", "minLength": 1, "description": "JPEG, PNG, WebP, BMP, TIFF, MPO or GIF"}
FORM = {"type": "object", "required": ["image"], "properties": {"image": IMAGE}}
VIEW = {"type": "string", "enum": ["ids", "overlay"], "default": "ids"}
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

SEGMENT = {
    "id": 1,
    "category_id": 9,
    "category": "car",
    "isthing": True,
    "score": 0.98,
    "area": 21003,
    "bbox": [12, 40, 300, 211],
    "iscrowd": 0,
}
ANSWER = {
    "image": {"width": 640, "height": 427},
    "segments_info": [SEGMENT],
    "void_area": 252277,
    "model": "camvid-demo@3f2a9c1d",
    "request_id": "7d0c4b5e",
    "png": "iVBORw0KGgo...",
}

REFUSALS: list[ServiceError] = [
    RequestError(400, "Unknown query view=x. The only one is view=ids or view=overlay."),
    RequestError(401, "This service needs a key. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."),
    RequestError(406, "Accept: text/html names no form of this answer."),
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
        title=error.title, status=error.status, detail=error.detail, code=error.code, request_id="7d0c4b5e"
    ).model_dump()


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of errors, each with an example."""
    return {
        error.status: {
            "description": error.title,
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
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "multipart/mixed": {"schema": {"type": "string", "format": "binary"}},
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **refusals(*(error.status for error in REFUSALS)),
}

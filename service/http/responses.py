"""Answers as bytes: JSON, PNG, multipart or zip. Runs off the event loop."""

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.interface.codec import encode_png
from model.interface.overlay import draw_overlay
from model.interface.panoptic import Panoptic, Pixels

BOUNDARY = "upsnet-panoptic-answer"
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Answer:
    """A body and its type."""

    content: bytes
    media_type: str


def describe(panoptic: Panoptic, model: str, request_id: str) -> dict[str, Any]:
    """The JSON of an answer, without the PNG."""
    height, width = panoptic.segment_ids.shape
    return {
        "image": {"width": width, "height": height},
        "segments_info": [{**vars(segment), "iscrowd": 0} for segment in panoptic.segments],
        "void_area": panoptic.void_area,
        "model": model,
        "request_id": request_id,
    }


def build(
    form: str,
    panoptic: Panoptic,
    model: str,
    request_id: str,
    photo: Pixels | None = None,
    colors: Mapping[int, tuple[int, int, int]] | None = None,
) -> Answer:
    """An answer in one of the negotiated forms.

    Args:
        form: of `negotiation.FORMS`.
        panoptic: the segmentation.
        model: as clients see it.
        request_id: to be repeated in the answer.
        photo: (H, W, 3) uint8; where given, the picture is the overlay on it and not the map of ids.
        colors: by category id, for the overlay.
    """
    facts = describe(panoptic, model, request_id)
    text = to_json(facts)
    pixels = panoptic.segment_ids if photo is None else draw_overlay(photo, panoptic, colors or {})
    if form == "image/png":
        return Answer(encode_png(pixels, {"panoptic": text}), form)
    png = encode_png(pixels)
    if form == "application/json":
        return Answer(text[:-1].encode() + b',"png":"' + base64.b64encode(png) + b'"}', form)
    if form == "multipart/mixed":
        return Answer(_multipart(text.encode(), png), f"{form}; boundary={BOUNDARY}")
    return Answer(_zip(facts, png), form)


def _multipart(text: bytes, png: bytes) -> bytes:
    lines = [f"--{BOUNDARY}".encode(), b"Content-Type: application/json", b"", text]
    lines += [f"--{BOUNDARY}".encode(), b"Content-Type: image/png", b"", png, f"--{BOUNDARY}--".encode(), b""]
    return b"\r\n".join(lines)


def _zip(facts: dict[str, Any], png: bytes) -> bytes:
    """A COCO-panoptic folder of one image, as panopticapi reads it."""
    segments = facts["segments_info"]
    labels = {s["category_id"]: {"name": s["category"], "isthing": int(s["isthing"])} for s in segments}
    folder = {
        "images": [{"id": 1, "file_name": "image.jpg", **facts["image"]}],
        "annotations": [{"image_id": 1, "file_name": "image.png", "segments_info": segments}],
        "categories": [{"id": number, **label} for number, label in sorted(labels.items())],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("panoptic.json", json.dumps(folder))
        archive.writestr("panoptic/image.png", png)
    return buffer.getvalue()

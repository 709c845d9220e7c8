"""The forms of an answer. A new one is a class here and its place in `FORMS`: clients and /docs then know it."""

import base64
import io
import json
import zipfile
from typing import Any, Protocol

from model.interface.codec import encode_png
from model.interface.panoptic import Pixels

BOUNDARY = "upsnet-panoptic-answer"
Facts = dict[str, Any]
"""The JSON of an answer without its PNG, as `responses.describe` makes it."""
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class AnswerForm(Protocol):
    """One form of an answer.

    Attributes:
        media_type: what a client writes into Accept.
        content_type: what the answer's Content-Type says.
    """

    media_type: str
    content_type: str

    def build(self, facts: Facts, pixels: Pixels, /) -> bytes:
        """The body, from the facts and a picture: (H, W) uint8 ids or (H, W, 3) uint8 RGB."""

    def describe(self, facts: Facts, pixels: Pixels, /) -> dict[str, Any]:
        """OpenAPI's media type object; with an example of this answer where people can read it."""


class Json:
    """One JSON object, the PNG in it as base64."""

    media_type = content_type = "application/json"

    def build(self, facts: Facts, pixels: Pixels) -> bytes:
        """The body."""
        return to_json(facts)[:-1].encode() + b',"png":"' + base64.b64encode(encode_png(pixels)) + b'"}'

    def describe(self, facts: Facts, pixels: Pixels) -> dict[str, Any]:
        """An example; FastAPI adds the schema, which is `PanopticResponse`."""
        return {"example": json.loads(self.build(facts, pixels))}


class Png:
    """The PNG, with the JSON in a text chunk."""

    media_type = content_type = "image/png"

    def build(self, facts: Facts, pixels: Pixels) -> bytes:
        """The body."""
        return encode_png(pixels, {"panoptic": to_json(facts)})

    def describe(self, *_: Any) -> dict[str, Any]:
        """The schema."""
        return _binary("the map of ids or the overlay; the JSON without `png` in its iTXt chunk `panoptic`")


class Multipart:
    """Two parts: the JSON and the PNG."""

    media_type = "multipart/mixed"
    content_type = f"{media_type}; boundary={BOUNDARY}"

    def build(self, facts: Facts, pixels: Pixels) -> bytes:
        """The body."""
        begin, text, png = f"--{BOUNDARY}".encode(), to_json(facts).encode(), encode_png(pixels)
        lines = [begin, b"Content-Type: application/json", b"", text]
        lines += [begin, b"Content-Type: image/png", b"", png, begin + b"--", b""]
        return b"\r\n".join(lines)

    def describe(self, *_: Any) -> dict[str, Any]:
        """The schema."""
        return _binary("the JSON without `png`, then the PNG")


class Zip:
    """A COCO-panoptic folder of one image, as panopticapi reads it."""

    media_type = content_type = "application/zip"

    def build(self, facts: Facts, pixels: Pixels) -> bytes:
        """The body; the archive is not compressed, as the PNG is."""
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
            archive.writestr("panoptic/image.png", encode_png(pixels))
        return buffer.getvalue()

    def describe(self, *_: Any) -> dict[str, Any]:
        """The schema."""
        return _binary("`panoptic.json` and `panoptic/image.png`, as panopticapi reads them")


def _binary(description: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary", "description": description}}


FORMS: tuple[AnswerForm, ...] = (Json(), Png(), Multipart(), Zip())
"""In order of preference: a client that accepts several equally gets the first of them."""
MEDIA_TYPES = tuple(form.media_type for form in FORMS)

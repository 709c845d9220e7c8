"""Answers as bytes: what all forms share, and how an answer is sent."""

from collections.abc import Mapping

from fastapi import Response
from starlette.types import Receive, Scope, Send

from model.interface.overlay import draw_overlay
from model.interface.panoptic import Panoptic, Pixels
from service.http.body import Uploads
from service.http.forms import AnswerForm, Facts

SENT_AT_ONCE_BYTES = 1 << 18


def build(
    form: AnswerForm,
    panoptic: Panoptic,
    model: str,
    request_id: str,
    photo: Pixels | None = None,
    colors: Mapping[int, tuple[int, int, int]] | None = None,
) -> bytes:
    """The body of an answer. Takes milliseconds: larger ones are built off the event loop.

    Args:
        form: the negotiated form.
        panoptic: the segmentation.
        model: the model's name, as clients see it.
        request_id: repeated in the answer.
        photo: (H, W, 3) uint8; where given, the picture is the overlay on it and not the map of ids.
        colors: by category id, for the overlay.
    """
    pixels = panoptic.segment_ids if photo is None else draw_overlay(photo, panoptic, colors or {})
    return form.build(describe(panoptic, model, request_id), pixels)


def describe(panoptic: Panoptic, model: str, request_id: str) -> Facts:
    """The JSON of an answer, without the PNG."""
    height, width = panoptic.segment_ids.shape
    return {
        "image": {"width": width, "height": height},
        "segments_info": [{**vars(segment), "iscrowd": 0} for segment in panoptic.segments],
        "void_area": panoptic.void_area,
        "model": model,
        "request_id": request_id,
    }


class CountedResponse(Response):
    """An answer that is sent as fast as its client takes it, and counted until it has.

    Args:
        uploads: where its bytes are counted.
        content: the body.
        headers: added to those of every answer.
        media_type: for Content-Type.
    """

    def __init__(self, uploads: Uploads, content: bytes, headers: dict[str, str], media_type: str) -> None:
        super().__init__(content, 200, headers, media_type)
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it piece by piece: the server waits before each until the client has taken those before it."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        body = memoryview(self.body)
        with self._uploads.holding(len(body)):
            for start in range(0, len(body), SENT_AT_ONCE_BYTES):
                piece = bytes(body[start : start + SENT_AT_ONCE_BYTES])
                more = start + SENT_AT_ONCE_BYTES < len(body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})

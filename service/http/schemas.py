"""The JSON of answers, for clients and for /docs."""

from typing import Literal

from pydantic import BaseModel, Field


class ImageSize(BaseModel):
    """Size of the upright image, pixels."""

    width: int
    height: int


class SegmentInfo(BaseModel):
    """One segment."""

    id: int = Field(description="its value in the PNG: R + 256 G + 65536 B")
    category_id: int = Field(description="the dataset's own id")
    category: str
    isthing: bool
    score: float = Field(description="a thing's detection score; a stuff segment's mean softmax")
    area: int = Field(description="pixels")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height; exact")
    iscrowd: Literal[0] = 0


class PanopticResponse(BaseModel):
    """The panoptic segmentation of one image."""

    image: ImageSize
    segments_info: list[SegmentInfo]
    void_area: int = Field(description="pixels of no segment")
    model: str = Field(description="name and first digits of the archive's sha256")
    request_id: str
    png: str | None = Field(None, description="base64 of the PNG; absent where the PNG comes beside the JSON")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str = Field(description="a stable name for programs")
    request_id: str


class Health(BaseModel):
    """State of the service."""

    live: bool
    ready: bool
    reason: str | None = Field(None, description="why it is not ready")
    model: str | None = None
    device: str | None = None
    workers: int = 0
    queue_images: int = 0

"""Everything that can be set, from the environment."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.memory import memory_limit

MEGABYTE = 1 << 20
UPLOADS_SHARE = 32
"""Bodies may hold this part of the memory of the host or container: a 32nd, which is 256 MB of 8 GB."""
Count = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[tuple[int, int], ...], NoDecode]
Words = Annotated[tuple[str, ...], NoDecode]


class SettingsError(Exception):
    """A setting is wrong; the message is one line and names it."""


class Settings(BaseSettings):
    """Settings of the service; each is read from `UPSNET_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="UPSNET_", frozen=True, extra="ignore")

    model: Path = Field(Path("weights/camvid_demo.pt"), description="archive to serve")
    device: str = Field("auto", description="auto, cpu, cuda, or a list: cuda:0,cuda:1")
    precision: Literal["auto", "float32", "float16"] = Field("auto", description="auto is float16 on CUDA")
    kernels: Literal["auto", "off"] = Field("auto", description="off takes the slower forms of all operators on CUDA")
    host: str = Field("127.0.0.1", description="address to listen on; the image sets 0.0.0.0")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    max_batch_size: Count | None = Field(None, description="images in a batch; default 8, on a CPU 1")
    max_batch_pixels: Count = Field(12_000_000, description="padded pixels in a batch")
    max_queue: Count = Field(64, description="images that may wait")
    max_queue_pixels: Count = Field(200_000_000, description="pixels of images without an answer")
    deadline_ms: Count = Field(30_000, description="milliseconds from the first byte of a request to its answer")
    max_bytes: Count = Field(20_000_000, description="bytes of an image file")
    max_upload_bytes: Count = Field(
        default_factory=lambda: max(MEGABYTE, memory_limit() // UPLOADS_SHARE),
        description="bytes of bodies that wait to be decoded and of answers that wait to be sent; a 32nd of the memory",
    )
    max_pixels: Count = Field(40_000_000, description="pixels of a decoded image")
    body_timeout_ms: Count = Field(10_000, description="milliseconds for the whole body to arrive")
    decode_threads: Count = Field(
        default_factory=lambda: min(os.cpu_count() or 1, 4),
        description="threads that decode, and as many that encode; cores, at most 4",
    )
    warmup_sizes: Sizes = Field(((480, 640),), description="widths x heights to run before ready: 640x480,1280x720")
    drain_seconds: Count = Field(20, description="seconds for accepted requests to finish after SIGTERM")
    api_keys: Words = Field((), description="comma-separated keys; empty leaves the service open")
    log_format: Literal["text", "json"] = Field("text", description="text or json")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")

    def batch_size(self, on_cpu: bool) -> int:
        """Images in a batch: as set, or else as many as suit the device."""
        return self.max_batch_size or (1 if on_cpu else 8)

    @field_validator("warmup_sizes", mode="before")
    @classmethod
    def _parse_sizes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        sizes = []
        for size in filter(None, value.split(",")):
            match = re.fullmatch(r"\s*(\d+)x(\d+)\s*", size)
            if not match or "0" in match.groups():
                raise ValueError(f"expected WIDTHxHEIGHT, such as 640x480, got {size!r}")
            sizes.append((int(match[2]), int(match[1])))
        return tuple(sizes)

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_words(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+(,cuda:\d+)*", value):
            raise ValueError("expected auto, cpu, cuda, or a list such as cuda:0,cuda:1")
        return value

    @model_validator(mode="after")
    def _check_archive(self) -> "Settings":
        if self.model.is_dir():
            raise ValueError(f"UPSNET_MODEL {self.model} is a folder; name the archive (.pt) in it")
        if not self.model.is_file():
            raise ValueError(f"UPSNET_MODEL {self.model} does not exist; name an archive written by `model.export`")
        if self.model.stat().st_size == 0:
            raise ValueError(f"UPSNET_MODEL {self.model} is empty; fetch it again")
        return self


def load() -> Settings:
    """Settings from the environment.

    Raises:
        SettingsError: one is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = f"UPSNET_{str(first['loc'][0]).upper()}={first['input']!r}: " if first["loc"] else ""
        raise SettingsError(f"{name}{message}.") from error

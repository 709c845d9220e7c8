"""Everything that can be set: forms, defaults, and which values contradict each other.

`service.environment` says where values come from, `service.preflight` whether this host and this archive allow them.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from model.interface import host
from service import environment
from service.environment import PREFIX
from service.environment import SettingsError as SettingsError

MEGABYTE = 1 << 20
UPLOADS_SHARE = 32
"""Bodies may hold this part of the memory of the host or container: a 32nd, which is 256 MB of 8 GB."""
DAY_MS = 86_400_000
LONGEST_MESSAGE, LONGEST_VALUE = 300, 80
"""Characters of a refusal, and of the value that it repeats."""


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _parts(value: str, empty: str = "for the default") -> list[str]:
    """The parts of a comma-separated value, without the empty ones.

    Args:
        value: what was set.
        empty: what an empty value is for.

    Raises:
        ValueError: there is none, which nobody means: a value that sets nothing is left empty.
    """
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise ValueError(f"nothing stands between the commas; leave it empty {empty}")
    return parts


Word = BeforeValidator(_lower)
"""Values that are words are read in any case."""
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Amount = Annotated[int, Field(ge=1, le=10**15)]
Milliseconds = Annotated[int, Field(ge=1, le=DAY_MS)]
Sizes = tuple[tuple[int, int], ...]


class Settings(BaseModel):
    """Settings of the service; each is read from `UPSNET_` and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path = Field(Path("weights/camvid_demo.pt"), description="archive to serve")
    device: Annotated[str, Word] = Field("auto", description="auto, cpu, cuda, or a list: cuda:0,cuda:1 or cpu,cpu")
    precision: Annotated[Literal["auto", "float32", "float16", "bfloat16"], Word] = Field(
        "auto", description="auto is float16 on CUDA, bfloat16 on CPUs with units for it, else float32"
    )
    kernels: Annotated[Literal["auto", "off"], Word] = Field(
        "auto", description="off takes the slower forms of all operators on CUDA"
    )
    host: str = Field("127.0.0.1", description="address to listen on; the image sets 0.0.0.0")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    max_batch_size: Count | None = Field(None, description="images in a batch; default 8, on a CPU 1")
    max_batch_pixels: Amount = Field(12_000_000, description="padded pixels in a batch")
    max_queue: Count = Field(64, description="images that may wait")
    max_queue_pixels: Amount = Field(200_000_000, description="pixels of images without an answer")
    deadline_ms: Milliseconds = Field(30_000, description="milliseconds from the first byte of a request to its answer")
    max_bytes: Amount = Field(20_000_000, description="bytes of an image file")
    max_upload_bytes: Amount = Field(
        default_factory=lambda: max(MEGABYTE, host.memory() // UPLOADS_SHARE),
        description="bytes of bodies that wait to be decoded and of answers that wait to be sent; a 32nd of the memory",
    )
    max_pixels: Amount = Field(40_000_000, description="pixels of a decoded image")
    body_timeout_ms: Milliseconds = Field(10_000, description="milliseconds for the whole body to arrive")
    decode_threads: int = Field(
        default_factory=lambda: min(host.cores(), 4),
        ge=1,
        le=1024,
        description="threads that decode, and as many that encode; cores, at most 4",
    )
    warmup_sizes: Sizes = Field(((480, 640),), description="widths x heights to run before ready: 640x480,1280x720")
    drain_seconds: int = Field(
        20, ge=1, le=DAY_MS // 1000, description="seconds for accepted requests to finish after SIGTERM"
    )
    api_keys: tuple[str, ...] = Field((), description="comma-separated keys; without any the service is open")
    log_format: Annotated[Literal["text", "json"], Word] = Field("text", description="text or json")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Word] = Field(
        "info", description="debug, info, warning or error"
    )

    def batch_size(self, on_cpu: bool) -> int:
        """Images in a batch: as set, or else as many as suit the device."""
        return self.max_batch_size or (1 if on_cpu else 8)

    @field_validator("model", mode="before")
    @classmethod
    def _check_named(cls, value: object) -> object:
        if value == "":
            raise ValueError("no archive is named; unset it for the demo archive")
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _check_not_linked(cls, value: object) -> object:
        if isinstance(value, str) and "://" in value:  # Docker's links set it too
            raise ValueError(
                "expected a number. Kubernetes sets this for a Service named upsnet: set enableServiceLinks to false"
            )
        return value

    @field_validator("warmup_sizes", mode="before")
    @classmethod
    def _parse_sizes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        sizes = []
        for size in _parts(value):
            match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", size.lower())
            if not match or not int(match[1]) or not int(match[2]):
                raise ValueError(f"expected WIDTHxHEIGHT, such as 640x480, got {shown(size)}")
            sizes.append((int(match[2]), int(match[1])))
        return tuple(sizes)

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys = _parts(value, "to let everybody in without a key")
        for number, key in enumerate(keys, start=1):
            if not key.isprintable() or any(letter.isspace() for letter in key):
                raise ValueError(
                    f"key {number} of {len(keys)} has white space, control characters or bytes that are no UTF-8, "
                    "which clients cannot send. Make one with `openssl rand -hex 32`"
                )
        return tuple(keys)

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        names = _parts(value)
        gpus = [name for name in names if name.startswith("cuda")]
        if len(set(gpus)) < len(gpus):
            raise ValueError("a GPU is named twice; each has one worker")
        device = ",".join(names)
        number = "cuda:(0|[1-9][0-9]{0,2})"
        if not re.fullmatch(f"auto|cpu(,cpu)*|cuda|{number}(,{number})*", device):
            raise ValueError("expected auto, cpu, cuda, or a list such as cuda:0,cuda:1 or cpu,cpu")
        return device

    @model_validator(mode="after")
    def _check_precision(self) -> "Settings":
        if self.device.startswith("cpu") and self.precision == "float16":
            raise ValueError(
                f"UPSNET_PRECISION='float16' needs a GPU, and UPSNET_DEVICE={shown(self.device)} is none; use "
                "bfloat16, float32 or auto"
            )
        return self


def load() -> Settings:
    """Settings from the environment and, below it, from `.env` in the folder where the process was started.

    Raises:
        SettingsError: one is wrong.
    """
    values = environment.variables()
    try:
        return Settings(**{name: values[name.upper()] for name in Settings.model_fields if name.upper() in values})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            name = str(first["loc"][0]).upper()
            message = f"{PREFIX}{name}{'' if name == 'API_KEYS' else '=' + shown(values[name])}: {message}"
        raise refusal(f"{message}.") from error


def unknown_names() -> str | None:
    """A line about variables that look like settings and are none; None if there are none."""
    return environment.warning(environment.variables(), [name.upper() for name in Settings.model_fields])


def shown(value: object) -> str:
    """A value as a refusal repeats it: on one line, and no longer than it helps."""
    text = ascii(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 20]}...{text[-10:]}"


def refusal(message: str) -> SettingsError:
    """A refusal in one line that is not too long to be read."""
    line = " ".join(message.split())
    if len(line) > LONGEST_MESSAGE:  # a long path, say: what is wrong stands at its end
        line = f"{line[: LONGEST_MESSAGE // 2]}...{line[-LONGEST_MESSAGE // 2 + 3 :]}"
    return SettingsError(line)

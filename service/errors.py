"""Every error that a request is answered with, and the part of the data path where it arises.

  connection --headers--> request --body--> bytes --decode--> image --queue--> batch --pipe--> worker --device--> answer

    ServiceError          the request is answered with a problem
      ProtocolError       headers   400, 431, 501, 505
      RequestError        headers   400, 401, 404, 405, 406, 415, 417
      BodyError           body      400, 408, 413
      UploadsFullError    body      429
      ImageRefusedError   decode    413, 415, 422
      QueueFullError      queue     429
      DeadlineExceededError         504  at any step
      ClientGoneError               499  in metrics only: nobody is left to answer
      NotReadyError       worker    503
      PoisonousImageError worker    422  the image was alone when its worker died
      InternalError       device    500  a defect; says nothing internal

  What fails inside and is not answered as such: `service.failures`.

The message of a ServiceError reaches the client: what happened, what was expected, what to do; it names no path.
"""

import math
import random
from collections.abc import Iterable
from typing import ClassVar, Self


class ServiceError(Exception):
    """A request that is answered with a problem.

    Args:
        detail: what the client reads.

    Attributes:
        status: HTTP status of the answer.
        code: a stable name for programs.
        title: a stable phrase for people.
        outcome: the label under which `images_total` counts the request.
        retry_after: seconds after which trying again makes sense, if it does.
    """

    status = 500
    code = "internal_error"
    title = "Internal error"
    outcome = "failed"
    retry_after: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidError(ServiceError):
    """The client made a mistake. A status without an entry in `_KINDS` is described as 400 is.

    Args:
        status: HTTP status of the answer.
        detail: what the client reads.
    """

    outcome = "invalid"
    _KINDS: ClassVar[dict[int, tuple[str, str]]] = {}

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code, self.title = self._KINDS.get(status, ("bad_request", "Bad request"))


class ProtocolError(InvalidError):
    """The client does not speak HTTP as this service does. The connection ends with it."""

    _KINDS: ClassVar = {
        400: ("malformed_request", "Malformed request"),
        431: ("headers_too_large", "Headers too large"),
        501: ("not_implemented", "Transfer coding not supported"),
        505: ("http_version", "HTTP version not supported"),
    }

    @classmethod
    def refused(cls, status: int, reason: str) -> Self:
        """What the parser of HTTP has refused."""
        return cls(status, f"{reason[:1].upper()}{reason[1:]}. Send HTTP/1.1 (RFC 9112).")


class RequestError(InvalidError):
    """The request itself is wrong, whatever its body is."""

    _KINDS: ClassVar = {
        400: ("bad_request", "Bad request"),
        401: ("unauthorized", "Key missing or unknown"),
        404: ("not_found", "No such route"),
        405: ("method_not_allowed", "Method not allowed"),
        406: ("not_acceptable", "No such answer form"),
        415: ("unsupported_coding", "Unsupported content coding"),
        417: ("expectation_failed", "Expectation cannot be met"),
    }

    @classmethod
    def unknown_query(cls, given: str, known: Iterable[str]) -> Self:
        """A query, as `name=value`, that is not one of the known ones."""
        return cls(400, f"Unknown query {given}"[:200] + f". The only one is {' or '.join(known)}.")

    @classmethod
    def bad_deadline(cls, given: str, most: int) -> Self:
        """An X-Deadline-Ms that is no number of milliseconds; more than `most` counts as so many."""
        return cls(400, f"X-Deadline-Ms is {given[:50]!r}; expected a whole number of milliseconds, 1 to {most}.")

    @classmethod
    def key_missing(cls) -> Self:
        """No key, or none that fits."""
        return cls(401, "This service needs a key. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")

    @classmethod
    def no_such_route(cls) -> Self:
        """An unknown path."""
        return cls(404, "No such route. See /docs.")

    @classmethod
    def wrong_method(cls) -> Self:
        """A known path, but not for this method."""
        return cls(405, "This route has another method. See /docs.")

    @classmethod
    def not_acceptable(cls, accept: str, known: Iterable[str]) -> Self:
        """An Accept header that names none of the known media types."""
        return cls(406, f"Accept: {accept[:200]} names no form of this answer. Accept one of {', '.join(known)}.")

    @classmethod
    def coded_body(cls, codings: str) -> Self:
        """A Content-Encoding header: the body would have to be unpacked first."""
        return cls(415, f"Content-Encoding: {codings[:50]} is not unpacked. Send the bytes of the file.")

    @classmethod
    def unknown_expectation(cls, given: str, known: str) -> Self:
        """An Expect header with more in it than the known one."""
        return cls(417, f"Expect: {given[:50]} is not known. The only expectation that can be met is {known}.")


class BodyError(InvalidError):
    """The body did not arrive as it should."""

    _KINDS: ClassVar = {
        400: ("malformed_body", "Malformed body"),
        408: ("body_timeout", "Body too slow"),
        413: ("body_too_large", "Body too large"),
    }

    @classmethod
    def empty(cls) -> Self:
        """No byte of an image, in a form or without one."""
        return cls(400, "The body is empty. Send an image, or a form with the file in `image`.")

    @classmethod
    def malformed_form(cls) -> Self:
        """A multipart form that cannot be parsed."""
        return cls(400, "The form is malformed. Send multipart/form-data with the file in `image`.")

    @classmethod
    def cut_form(cls) -> Self:
        """A form without its end."""
        return cls(400, "The form ends before its last boundary. Send the whole body.")

    @classmethod
    def form_without_image(cls) -> Self:
        """A form whose parts have other names."""
        return cls(400, "The form has no part named `image`. Send the file in `image`.")

    @classmethod
    def coded_part(cls, coding: str) -> Self:
        """A part whose bytes stand in another coding than base64."""
        return cls(400, f"Content-Transfer-Encoding: {coding[:50]} is not read. Send the bytes of the file, or base64.")

    @classmethod
    def no_base64(cls) -> Self:
        """A part that is damaged, or in another coding than it says."""
        return cls(400, "The part `image` is not the base64 that its Content-Transfer-Encoding says. Send it whole.")

    @classmethod
    def crowded_form(cls, max_bytes: int) -> Self:
        """A form with too much beside its image."""
        return cls(400, f"The form has more than {max_bytes} bytes beside its image. Send the file alone.")

    @classmethod
    def too_slow(cls, seconds: float) -> Self:
        """The time for the whole body is over."""
        return cls(408, f"The body did not arrive within {seconds:g} s. Send it faster.")

    @classmethod
    def too_large(cls, max_bytes: int) -> Self:
        """An image file of more bytes than are taken."""
        return cls(413, f"The image has more than {max_bytes} bytes. Send a smaller file or raise UPSNET_MAX_BYTES.")


class ImageRefusedError(InvalidError):
    """The bytes are not an image that is accepted; the codec says why."""

    _KINDS: ClassVar = {
        413: ("image_too_large", "Image too large"),
        415: ("unsupported_image", "Unsupported image format"),
        422: ("invalid_image", "Image cannot be decoded"),
    }


class UploadsFullError(ServiceError):
    """The bodies of all requests together hold as many bytes as they may."""

    status, code, title, outcome = 429, "uploads_full", "Too much under way", "rejected"

    def __init__(self) -> None:
        super().__init__("Too many bytes of other requests are under way. Try again in a moment.")
        self.retry_after = random.randint(1, 3)


class QueueFullError(ServiceError):
    """No more images may wait, or no more pixels may be held."""

    status, code, title, outcome = 429, "queue_full", "Queue full", "rejected"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The queue is full. Try again in {retry_after} s.")
        self.retry_after = retry_after


class DeadlineExceededError(ServiceError):
    """The answer cannot come, or has not come, in time.

    Args:
        detail: what the client reads.
    """

    status, code, title, outcome = 504, "deadline_exceeded", "Deadline exceeded", "expired"

    def __init__(self, detail: str = "The deadline passed, or cannot be met. Try again when load is lower.") -> None:
        super().__init__(detail)

    @classmethod
    def of_client(cls, given: int, most: int) -> Self:
        """The request's own deadline of so many milliseconds; the service would have waited for `most`."""
        own = f"The deadline that X-Deadline-Ms set, {given} ms, passed or cannot be met."
        return cls(f"{own} Send a later one, up to {most}, or try when load is lower.")


class ClientGoneError(ServiceError):
    """The client left before its answer."""

    status, code, title, outcome = 499, "client_gone", "Client left", "cancelled"

    def __init__(self) -> None:
        super().__init__("The client left.")


class NotReadyError(ServiceError):
    """The service starts, stops, or has lost its worker."""

    status, code, title, outcome = 503, "not_ready", "Not ready", "rejected"
    LOADING = "The model is loading."
    RESTARTING = "The worker is restarting."
    STOPPING = "The service is stopping."
    STOPPED = "The service has stopped."
    REPLACED_SECONDS = 5.0  # after so long another replica, or a new process, may answer

    def __init__(self, detail: str, seconds: float = REPLACED_SECONDS) -> None:
        super().__init__(detail)
        self.retry_after = min(max(math.ceil(seconds), 1), 60)

    @classmethod
    def for_now(cls, reason: str, seconds: float = REPLACED_SECONDS) -> Self:
        """A refusal that gives the reason why no work is taken, and when it may be taken again."""
        return cls(f"{reason} Try again soon.", seconds)


class PoisonousImageError(ServiceError):
    """Two workers died on this image, the second while it was alone."""

    status, code, title, outcome = 422, "image_kills_worker", "Image cannot be processed", "failed"

    def __init__(self) -> None:
        super().__init__("The network failed on this image twice, the second time with it alone. Do not send it again.")


class InternalError(ServiceError):
    """A defect of the service; the log has the reason."""

    def __init__(self) -> None:
        super().__init__("The service failed on this image; the reason is in its log under the request id.")

"""Everything that can go wrong, and the part of the data path where it does.

  connection --headers--> request --body--> bytes --decode--> image --queue--> batch --pipe--> worker --device--> answer

    ServiceError          the request is answered with a problem
      ProtocolError       headers   400, 431, 501, 505
      RequestError        headers   400, 401, 404, 405, 406, 417
      BodyError           body      400, 408, 413
      UploadsFullError    body      429
      ImageRefusedError   decode    413, 415, 422
      QueueFullError      queue     429
      DeadlineExceededError         504  at any step
      ClientGoneError               499  in metrics only: nobody is left to answer
      NotReadyError       worker    503
      PoisonousImageError worker    422  the image was alone when its worker died
      InternalError       device    500  a defect; says nothing internal

    Failures of a batch, after which `service.batching.recovery` tries its images again
      SharedMemoryError       pipe    no memory for the images
      DeviceLostError         worker  it ended: each image is tried again alone, and is poisonous if another worker ends
      OutOfDeviceMemoryError  device  the batch is halved
      PredictionError         device  the batch is halved until the image that causes it is alone: 500

    WorkerStartError          worker  ends the start of the service; a worker that ends later is started again

The message of a ServiceError reaches the client: it says what happened, what was expected and what to do, and names no
path.
"""

import random
from typing import ClassVar


class ServiceError(Exception):
    """A request that is answered with a problem.

    Args:
        detail: for the client.

    Attributes:
        status: of the answer.
        code: a stable name for programs.
        title: a stable phrase for people.
        outcome: what `images_total` counts it as.
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
    """Something of the client's is wrong; a status that is not among the kinds is told as 400 is.

    Args:
        status: of the answer.
        detail: for the client.
    """

    outcome = "invalid"
    _KINDS: ClassVar[dict[int, tuple[str, str]]] = {}

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code, self.title = self._KINDS.get(status, ("bad_request", "Bad request"))


class ProtocolError(InvalidError):
    """What came is not HTTP as it is spoken here: 400, 431, 501 or 505. The connection ends with it."""

    _KINDS: ClassVar = {
        400: ("malformed_request", "Malformed request"),
        431: ("headers_too_large", "Headers too large"),
        501: ("not_implemented", "Transfer coding not supported"),
        505: ("http_version", "HTTP version not supported"),
    }


class RequestError(InvalidError):
    """The request itself is wrong: 400, 401, 404, 405, 406 or 417."""

    _KINDS: ClassVar = {
        400: ("bad_request", "Bad request"),
        401: ("unauthorized", "Key missing or unknown"),
        404: ("not_found", "No such route"),
        405: ("method_not_allowed", "Method not allowed"),
        406: ("not_acceptable", "No such answer form"),
        417: ("expectation_failed", "Expectation cannot be met"),
    }


class BodyError(InvalidError):
    """The body did not arrive as it should: 400 malformed, 408 too slow, 413 too large."""

    _KINDS: ClassVar = {
        400: ("malformed_body", "Malformed body"),
        408: ("body_timeout", "Body too slow"),
        413: ("body_too_large", "Body too large"),
    }


class ImageRefusedError(InvalidError):
    """The bytes are not an image that is accepted: 413 too many pixels, 415 other format, 422 cannot be decoded."""

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
    """As many images wait, or as many pixels are held, as may."""

    status, code, title, outcome = 429, "queue_full", "Queue full", "rejected"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The queue is full. Try again in {retry_after} s.")
        self.retry_after = retry_after


class DeadlineExceededError(ServiceError):
    """The answer cannot come, or has not come, in time."""

    status, code, title, outcome = 504, "deadline_exceeded", "Deadline exceeded", "expired"

    def __init__(self) -> None:
        super().__init__("The deadline passed, or cannot be met. Send a later X-Deadline-Ms or try when load is lower.")


class ClientGoneError(ServiceError):
    """The client left before its answer."""

    status, code, title, outcome = 499, "client_gone", "Client left", "cancelled"

    def __init__(self) -> None:
        super().__init__("The client left.")


class NotReadyError(ServiceError):
    """The service starts, stops, or has lost its worker."""

    status, code, title, outcome = 503, "not_ready", "Not ready", "rejected"

    def __init__(self, detail: str, retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class PoisonousImageError(ServiceError):
    """The image was alone when its worker died, after another had died with it."""

    status, code, title, outcome = 422, "image_kills_worker", "Image cannot be processed", "failed"

    def __init__(self) -> None:
        super().__init__("The network failed on this image twice, the second time with it alone. Do not send it again.")


class InternalError(ServiceError):
    """A defect of ours; the log has the reason."""

    def __init__(self) -> None:
        super().__init__("The service failed on this image; the reason is in its log under the request id.")


class WorkerStartError(Exception):
    """A worker cannot start; the message is one line."""


class SharedMemoryError(Exception):
    """There is not enough shared memory; the message is one line and says what to do."""


class PredictionError(Exception):
    """The predictor failed on a batch; it may answer others."""


class DeviceLostError(Exception):
    """The worker ended before it answered.

    Args:
        message: what is known of its end.
        started: whether it had begun the batch; one that it never began cannot be the cause.
    """

    def __init__(self, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.started = started


class OutOfDeviceMemoryError(Exception):
    """The batch did not fit into the device's memory."""

"""What fails inside: on the way to a worker, in it or on its device. No request is answered with one of these.

Failures of a batch, after which `service.batching.recovery` tries its images again
SharedMemoryError       pipe    no memory for the images
DeviceLostError         worker  it ended: each image is tried again alone, and is poisonous if another worker ends
OutOfDeviceMemoryError  device  the batch is halved
PredictionError         device  the batch is halved until the image that causes it is alone: 500

WorkerStartError          worker  ends the start of the service; a worker that ends later is started again
"""


class WorkerStartError(Exception):
    """A worker cannot start; the message is one line, and `cause` a sentence for clients that names no path."""

    def __init__(self, message: str, cause: str = "The log says why.") -> None:
        super().__init__(message)
        self.cause = cause


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

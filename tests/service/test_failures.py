"""What fails inside is no answer to a request."""

import inspect

from service import failures
from service.errors import ServiceError


def test_no_failure_can_be_sent_to_a_client() -> None:
    kinds = [kind for _, kind in inspect.getmembers(failures, inspect.isclass)]
    assert len(kinds) == 5
    assert not any(issubclass(kind, ServiceError) for kind in kinds)


def test_a_lost_device_says_whether_it_had_begun() -> None:
    assert failures.DeviceLostError("gone", started=True).started
    assert not failures.DeviceLostError("gone", started=False).started

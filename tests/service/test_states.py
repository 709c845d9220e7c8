"""What each state says to those who want work done."""

from typing import Any

import pytest

from service.states import Draining, Failed, Loading, Serving, explain
from service.workers.progress import Outlook

SERVING = Serving(None, None)  # type: ignore[arg-type]
STOPPING = Outlook("The service is stopping.", 5.0)


class Told:
    """A backend with its own reason."""

    def __init__(self, live: int) -> None:
        self.live = live

    def outlook(self) -> Outlook:
        return Outlook("It hatches.", 3.0)


@pytest.mark.parametrize(
    ("state", "live", "expected"),
    [
        (Loading(), 0, ("It hatches.", 3.0)),
        (SERVING, 1, None),
        (SERVING, 0, ("It hatches.", 3.0)),
        (Draining(SERVING), 1, STOPPING),
        (Draining(None), 0, STOPPING),
        (Failed(ValueError("/a/path")), 0, ("The model is loading.", 5.0)),
    ],
)
def test_the_reason_is_that_of_the_state_or_of_the_backend(state: Any, live: int, expected: Any) -> None:
    assert explain(state, Told(live)) == expected  # type: ignore[arg-type]

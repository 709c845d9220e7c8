"""The wire: what arrives is what was sent, and each kind has one place."""

import pickle
from typing import get_args

import pytest

from service.workers import messages
from service.workers.messages import (
    Batch,
    Done,
    Failed,
    Forget,
    FromWorker,
    NewBlock,
    OutOfMemory,
    Ready,
    Refused,
    Step,
    ToWorker,
)
from service.workers.shared_memory import Place
from tests.service.emulated import SERVED, answer, image


@pytest.mark.parametrize(
    "message",
    [
        NewBlock(1, 1 << 20),
        Forget(1),
        Batch(2, 1, [Place(0, 4, 6)]),
        Step("warm-up 1 of 2", 0.5),
        Ready(SERVED, 1, 2),
        Refused("no /archive.pt", "The archive is gone."),
        Done(2, [answer(image()).segments], 1),
        OutOfMemory(2, "CUDA out of memory.", 1),
        Failed(2, "ValueError: bad image", 1),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: ToWorker | FromWorker) -> None:
    arrived = pickle.loads(pickle.dumps(message))
    assert arrived == message
    assert type(arrived) is type(message)


def test_every_message_goes_one_way() -> None:
    kinds = {kind for kind in vars(messages).values() if hasattr(kind, "_fields") and kind is not Place}
    to_worker, from_worker = set(get_args(ToWorker)), set(get_args(FromWorker))
    assert to_worker | from_worker == kinds
    assert not to_worker & from_worker

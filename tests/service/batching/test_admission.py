"""Places in the queue and pixels in memory."""

import pytest

from service.batching.admission import Admission
from service.errors import ClientGoneError, QueueFullError


def test_a_reserved_place_counts_until_it_is_released() -> None:
    admission = Admission(max_queue=1, max_queue_pixels=100)
    ticket = admission.reserve()
    assert admission.waiting == 1
    with pytest.raises(QueueFullError):
        admission.reserve()
    admission.release(ticket)
    admission.release(ticket)  # the second time is harmless
    admission.release(admission.reserve())
    assert admission.waiting == 0


def test_who_leaves_the_queue_for_a_device_keeps_its_pixels() -> None:
    admission = Admission(max_queue=1, max_queue_pixels=100)
    ticket = admission.reserve()
    admission.charge(ticket, 60)
    admission.leave(ticket)
    assert (admission.waiting, admission.pixels) == (0, 60)
    second = admission.reserve()
    with pytest.raises(QueueFullError):
        admission.charge(second, 41)
    admission.charge(second, 40)
    admission.release(ticket)
    assert admission.pixels == 40


def test_an_item_of_any_size_is_admitted_where_no_pixels_are_held() -> None:
    admission = Admission(max_queue=2, max_queue_pixels=100)
    admission.charge(admission.reserve(), 1000)
    assert admission.pixels == 1000


def test_pixels_for_a_client_that_has_left_are_not_held() -> None:
    admission = Admission(max_queue=1, max_queue_pixels=100)
    ticket = admission.reserve()
    admission.release(ticket)
    with pytest.raises(ClientGoneError):
        admission.charge(ticket, 1)
    assert admission.pixels == 0


def test_a_refusal_says_how_long_items_take_lately() -> None:
    admission = Admission(max_queue=1, max_queue_pixels=100)
    ticket = admission.reserve()
    ticket.since -= 100.0
    admission.release(ticket)  # a fifth of its 100 s counts, up to twice of which is said
    admission.reserve()
    with pytest.raises(QueueFullError) as refusal:
        admission.reserve()
    assert 20 <= (refusal.value.retry_after or 0) <= 40


def test_a_refusal_says_how_long_the_devices_need_for_all_that_was_admitted() -> None:
    admission = Admission(max_queue=3, max_queue_pixels=100)
    admission.learn(10.0)
    for _ in range(3):
        admission.reserve()
    with pytest.raises(QueueFullError) as refusal:
        admission.reserve()
    assert 30 <= (refusal.value.retry_after or 0) <= 60


def test_a_refusal_says_at_least_a_second() -> None:
    admission = Admission(max_queue=0, max_queue_pixels=100)
    with pytest.raises(QueueFullError) as refusal:
        admission.reserve()
    assert (refusal.value.retry_after or 0) in (1, 2)

"""Entries that wait: in which order they go, and with whom."""

from typing import Any

from service.batching.admission import Ticket
from service.batching.queues import Batch, Entry, Queues


def entry(item: str, key: str = "a", deadline: float = 10.0, pixels: int = 0) -> Entry[str, str]:
    future: Any = None  # nobody waits
    return Entry(item, key, 100, deadline, Ticket(pixels), future, submitted=0.0)


def queues(*entries: Entry[str, str]) -> Queues[str, str]:
    found: Queues[str, str] = Queues()
    for one in entries:
        found.add(one)
    return found


def drained(found: Queues[str, str], fits: Any = lambda taken, _: len(taken) < 2) -> list[list[str]]:
    batches = []
    while taken := found.take(fits):
        batches.append([one.item for one in taken])
    return batches


def test_the_earliest_deadline_goes_first_with_others_of_its_key() -> None:
    found = queues(entry("x", "wide", 9.0), entry("b", "tall", 8.0), entry("c", "tall", 10.0), entry("a", "tall", 7.0))
    assert drained(found) == [["a", "b"], ["x"], ["c"]]


def test_equal_deadlines_keep_the_order_in_which_they_came() -> None:
    assert drained(queues(*map(entry, "abc"))) == [["a", "b"], ["c"]]


def test_40_megapixels_rank_two_seconds_later() -> None:
    large = entry("large", deadline=10.0, pixels=40_000_000)
    assert large.rank == 12.0
    found = queues(large, entry("small", deadline=11.9), entry("later", deadline=12.1))
    assert [one.item for one in found] == ["small", "large", "later"]


def test_a_batch_ends_at_the_first_that_does_not_fit() -> None:
    found = queues(*map(entry, "abxc"))
    assert drained(found, lambda _, one: one.item != "x") == [["a", "b"], ["x", "c"]]


def test_what_is_discarded_is_gone_and_doing_so_twice_is_harmless() -> None:
    gone, kept = entry("gone", "a"), entry("kept", "b")
    found = queues(gone, kept)
    found.discard(gone)
    found.discard(gone)
    assert (list(found), list(found.by_key)) == ([kept], ["b"])
    assert found.first() is kept


def test_nothing_waits_in_empty_queues() -> None:
    found = queues()
    assert found.first() is None
    assert found.take(lambda *_: True) == []


def test_those_that_rank_up_to_an_entry_are_counted_in_every_queue() -> None:
    found = queues(entry("a", "tall", 7.0), entry("b", "tall", 9.0), entry("c", "wide", 8.0), entry("d", "wide", 8.0))
    assert [found.count_up_to(entry("x", key, at)) for key in ("tall", "new") for at in (6.0, 7.0, 8.0, 9.5)] == [
        *(0, 1, 3, 4),
        *(0, 1, 3, 4),
    ]


def test_a_batch_adds_up_its_padded_pixels() -> None:
    assert Batch([entry("a"), entry("b")]).padded_pixels == 200

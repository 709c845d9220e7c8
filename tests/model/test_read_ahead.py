"""Reading ahead keeps the order, bounds what is read, and hands an error to the item it belongs to."""

import itertools
import threading

import pytest

from model.read_ahead import read_ahead


def test_items_come_in_order_whichever_is_read_first() -> None:
    second_is_read = threading.Event()

    def read(number: int) -> int:
        if number == 0:
            assert second_is_read.wait(10)
        elif number == 1:
            second_is_read.set()
        return number**2

    assert [(number, found.result()) for number, found in read_ahead(range(5), read, 3, 2)] == [
        (0, 0),
        (1, 1),
        (2, 4),
        (3, 9),
        (4, 16),
    ]


def test_no_more_is_read_than_asked_for_and_an_endless_source_can_be_left() -> None:
    begun: list[int] = []
    numbers = read_ahead(itertools.count(), begun.append, 3, 1)
    for number, found in numbers:
        found.result()
        assert len(begun) <= number + 3
        if number == 4:
            break
    numbers.close()
    assert begun == [0, 1, 2, 3, 4, 5, 6]


def test_an_error_is_the_items_own_and_the_others_are_read() -> None:
    (_, bad), (_, good) = read_ahead(["x", "7"], int, 2, 1)
    assert good.result() == 7
    with pytest.raises(ValueError, match="invalid literal"):
        bad.result()


def test_no_items_give_nothing() -> None:
    assert list(read_ahead([], int, 2, 1)) == []

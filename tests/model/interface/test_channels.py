"""How many classes and instances a byte a pixel holds."""

import pytest

from model.interface.channels import check_classes, room_for_instances


@pytest.mark.parametrize(("stuff", "things"), [(1, 1), (254, 1), (1, 254), (53, 80)])
def test_classes_that_fit_leave_room_for_an_instance(stuff: int, things: int) -> None:
    check_classes(stuff, things)
    assert room_for_instances(stuff) >= 1
    assert stuff + room_for_instances(stuff) == 255


@pytest.mark.parametrize(
    ("stuff", "things", "reason"),
    [
        (0, 2, "0 classes of stuff and 2 of things: a network needs both kinds"),
        (3, 0, "3 classes of stuff and 0 of things: a network needs both kinds"),
        (0, 0, "needs both kinds"),
        (254, 2, "254 classes of stuff and 2 of things: a map holds 255 classes"),
        (2, 254, "a map holds 255 classes"),
        (0, 300, "a map holds 255 classes"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(stuff: int, things: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_classes(stuff, things)

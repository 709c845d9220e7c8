"""Blocks of memory that two processes share."""

import os

import numpy as np
import pytest

from service.failures import SharedMemoryError
from service.workers import shared_memory
from service.workers.shared_memory import Block, Place, allocate, check_room, layout


def test_blocks_are_reused_and_only_a_few_are_kept() -> None:
    blocks = shared_memory.Blocks()
    first, new = blocks.take(100)
    assert new
    assert blocks.give(first) == []
    assert blocks.take(200) == (first, False)
    many = [blocks.take(1 << 20 << i)[0] for i in range(5)]
    closed = [blocks.give(block) for block in many]
    assert closed == [[], [], [], [], [many[4]]]
    large = blocks.take(shared_memory.IDLE_BYTES + 1)[0]
    assert blocks.give(large) == [large]
    assert blocks.trim(1 << 20) == many[1:4][::-1]
    blocks.close()


def test_images_lie_side_by_side_each_with_its_map_behind_it() -> None:
    places, size = layout([(2, 3, 3), (1, 20, 3)])
    assert places == [Place(0, 2, 3), Place(64, 1, 20)]  # 24 bytes, then 80, each rounded up to 64
    assert size == 64 + 128


def test_what_one_side_writes_the_other_reads() -> None:
    places, size = layout([(2, 3, 3), (1, 20, 3)])
    mine = allocate(1, size)
    theirs = Block(1, os.dup(mine.descriptor), mine.size)
    for number, place in enumerate(places, start=1):
        mine.pixels(place)[...] = number
        theirs.map(place)[...] = 10 + number
    for number, place in enumerate(places, start=1):
        assert np.all(theirs.pixels(place) == number)
        assert theirs.pixels(place).shape == (place.height, place.width, 3)
        assert np.all(mine.map(place) == 10 + number)
    mine.close()
    theirs.close()


def test_a_block_is_a_power_of_two_and_closing_it_twice_is_harmless() -> None:
    block = allocate(1, (1 << 20) + 1)
    assert block.size == 1 << 21
    block.close()
    block.close()


def test_too_little_room_for_the_largest_image_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    check_room(1_000_000)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(SharedMemoryError, match=r"too small for one image of 1 Mpx: 4 MiB.*UPSNET_MAX_PIXELS") as error:
        check_room(1_000_000)
    assert "\n" not in str(error.value)

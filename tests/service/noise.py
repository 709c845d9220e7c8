"""What makes C libraries write to stderr: a file that libtiff complains of without end, and a predictor."""

import ctypes
import os
import random
from typing import Any

from model.interface.panoptic import Panoptic
from tests.service.emulated import Emulated
from tests.service.tiffs import tiff


def fax_noise(rows: int = 65_000, compression: int = 3) -> bytes:
    """A TIFF of 30 columns in fax code (3: Group 3, 4: Group 4), with 2 kB of noise in place of its rows."""
    noise = random.Random(18).randbytes(2000)
    tags = [(256, 4, 30), (257, 4, rows), (258, 3, 1), (259, 3, compression), (262, 3, 0), (277, 3, 1), (278, 4, rows)]
    start = len(tiff([*tags, (273, 4, 0), (279, 4, len(noise))], b""))
    return tiff([*tags, (273, 4, start), (279, 4, len(noise))], noise)


class Noisy(Emulated):
    """Writes as libraries do, a thousand lines each time."""

    def predict(self, images: list[Any]) -> list[Panoptic]:
        library = ctypes.CDLL(None)
        for number in range(500):
            os.write(2, b"oneDNN \xff: %d \x1b[31m is odd\n" % number)
            library.printf(b"a primitive, %d\n", ctypes.c_int(number))
        print("and a print")
        return super().predict(images)


class Dying(Emulated):
    """Says why, and aborts."""

    def predict(self, images: list[Any]) -> list[Panoptic]:  # noqa: ARG002
        for number in range(100):
            os.write(2, b"noise %d\n" % number)
        os.write(2, b"free(): invalid pointer\n")
        os.abort()

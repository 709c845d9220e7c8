"""What the allocator keeps, in pages that each decoded image would be given anew."""

import os
import platform
import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = """
import io, resource, sys
import numpy as np
from PIL import Image
from model.interface.codec import decode
from service.memory import settle
if sys.argv[1] == "settled":
    assert settle()
file = io.BytesIO()
Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(file, "PNG")
def faults(images):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(images):
        decode(file.getvalue(), 1_000_000)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / images
faults(20)
print(faults(50))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settle() sets glibc's allocator")
def test_a_decoded_image_reuses_the_pages_of_the_last_one() -> None:
    def faults(state: str) -> float:
        command = [sys.executable, "-c", PROGRAM, state]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"},  # its default, kept
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    pages = 480 * 640 * 3 / 4096
    assert faults("settled") < 0.1 * pages < faults("plain")

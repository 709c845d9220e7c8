"""In which precision a predictor computes, and what becomes of its answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import archive
from model.archive import ArchiveError
from model.interface import host
from model.predictor import Predictor, choose_precision, to_tensor
from tests.paths import DEMO, EXAMPLES


@pytest.mark.parametrize(
    ("asked", "device", "chosen"),
    [
        ("auto", "cuda:1", "float16"),
        ("float32", "cuda", "float32"),
        ("float16", "cuda", "float16"),
        ("bfloat16", "cuda", "bfloat16"),
        ("float32", "cpu", "float32"),
    ],
)
def test_a_device_has_its_precision_unless_one_is_asked_for(
    asked: str, device: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(host, "multiplies_bfloat16", lambda: True)
    assert choose_precision(asked, device) == chosen


@pytest.mark.parametrize(("units", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_with_units_for_bfloat16_takes_it(
    units: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host, "multiplies_bfloat16", lambda: units)
    assert choose_precision("auto", "cpu") == chosen
    assert choose_precision("bfloat16", "cpu") == "bfloat16"
    told = "No units for bfloat16 are known of this processor: float32 may be faster."
    assert caplog.messages == ([] if units else [told])


def test_half_precision_on_a_cpu_is_refused(tiny_archive: Path) -> None:
    line = "Precision float16 needs a CUDA device; use float32 or bfloat16 on a CPU"
    with pytest.raises(ArchiveError, match=line):
        Predictor(tiny_archive, "cpu", "float16")


def test_bfloat16_on_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    line = "Precision bfloat16 needs a GPU of compute capability 8.0 or above; use float16 on cuda:1."
    with pytest.raises(ArchiveError, match=line):
        choose_precision("bfloat16", "cuda:1")


@pytest.mark.parametrize(("dtype", "agree"), [(torch.float16, 0.999), (torch.bfloat16, 0.99)])
@pytest.mark.parametrize("name", ["china.jpg", "china_small.jpg"])
def test_lower_precision_has_the_segments_of_float32(name: str, dtype: torch.dtype, agree: float) -> None:
    """Run by the CPU: what a device computes in, up to the order of its sums."""
    image = to_tensor(np.asarray(Image.open(EXAMPLES / name)), "cpu")
    full, half = archive.load(DEMO)[0], archive.load(DEMO)[0]
    archive.cast_weights(half, dtype)
    with torch.inference_mode():
        wanted, found = full([image])[0], half([image])[0]
    assert found.classes.tolist() == wanted.classes.tolist()
    assert float((found.segment_ids == wanted.segment_ids).float().mean()) >= agree

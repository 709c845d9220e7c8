"""The whole network on a device, kernels included, against the CPU's answer."""

import warnings

import pytest
import torch

from model.archive import cast_weights, load
from model.benchmark.__main__ import sample_images
from tests.paths import DEMO

ARCHIVE = DEMO


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_device_gives_the_cpus_segments(dtype: torch.dtype) -> None:
    size = (360, 480)
    wanted, served = load(ARCHIVE, "cpu")[0], load(ARCHIVE, "cuda")[0]
    cast_weights(served, dtype)
    with torch.inference_mode():
        expected = wanted(sample_images(*size, 2, "cpu"))
        found = served(sample_images(*size, 2, "cuda"))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.classes.tolist() == theirs.classes.tolist()
        assert float((ours.segment_ids.cpu() == theirs.segment_ids).float().mean()) >= 0.995


@pytest.mark.gpu
def test_a_batch_takes_two_host_round_trips() -> None:
    served = load(ARCHIVE, "cuda")[0]
    images = sample_images(360, 480, 2, "cuda")
    with torch.inference_mode():
        for _ in range(2):  # compiles, and copies tables of sizes there
            served(images)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                served(images)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in waits if "synchroniz" in str(w.message)]) <= 2
    assert waits, "the counter counts nothing"


@pytest.mark.gpu
def test_kernels_run_on_the_device_of_their_input() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one device")
    size = (360, 480)
    with torch.inference_mode(), torch.cuda.device(0):
        expected = load(ARCHIVE, "cuda:0")[0](sample_images(*size, 1, "cuda:0"))[0]
        found = load(ARCHIVE, "cuda:1")[0](sample_images(*size, 1, "cuda:1"))[0]
    assert torch.equal(found.segment_ids, expected.segment_ids)

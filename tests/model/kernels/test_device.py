"""The whole network on a device, kernels included, against the CPU's answer."""

from pathlib import Path

import pytest
import torch

from model.archive import cast_weights, load
from model.benchmark import sample_images

ARCHIVE = Path(__file__).parents[3] / "weights/camvid_demo.pt"


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

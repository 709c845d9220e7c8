"""Half precision, run by the CPU: what a device computes in, up to the order of its sums."""

import numpy as np
import pytest
import torch
from PIL import Image

from model import archive
from model.predictor import to_tensor
from tests.paths import DEMO, EXAMPLES


@pytest.mark.parametrize("photo", ["china.jpg", "china_small.jpg"])
def test_half_precision_has_the_segments_of_float32(photo: str) -> None:
    image = to_tensor(np.asarray(Image.open(EXAMPLES / photo)), "cpu")
    full, half = archive.load(DEMO)[0], archive.load(DEMO)[0]
    archive.cast_weights(half, torch.float16)
    with torch.inference_mode():
        wanted, found = full([image])[0], half([image])[0]
    assert found.classes.tolist() == wanted.classes.tolist()
    assert float((found.segment_ids == wanted.segment_ids).float().mean()) >= 0.999

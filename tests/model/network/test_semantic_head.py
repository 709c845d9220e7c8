"""Semantic logits of the pyramid."""

import pytest
import torch

from model.archive import quiet
from model.network.semantic_head import SemanticHead
from tests.model.network.examples import random_pyramid


def head() -> SemanticHead:
    torch.manual_seed(0)
    return SemanticHead([20, 16, 12], 9)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (256, 384)])
def test_logits_are_at_stride_4(height: int, width: int) -> None:
    with torch.no_grad():
        assert head()(random_pyramid(20, height, width)).shape == (2, 9, height // 4, width // 4)


def test_scoring_levels_before_they_are_enlarged_changes_nothing() -> None:
    semantic_head, pyramid = head(), random_pyramid(20, 256, 384)
    with torch.no_grad():
        found = semantic_head(pyramid)
        torch.testing.assert_close(found, semantic_head.logits(semantic_head.features(pyramid)), atol=1e-5, rtol=1e-5)
    assert found.is_contiguous()  # as the panoptic head reads them


def test_scripted_gives_the_same_bits() -> None:
    semantic_head, pyramid = head(), random_pyramid(20, 64, 128)
    with quiet(), torch.no_grad():
        assert torch.equal(torch.jit.script(semantic_head)(pyramid), semantic_head(pyramid))

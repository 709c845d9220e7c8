"""The deformable convolution as a layer."""

import pytest
import torch
import torch.nn.functional as F

from model.archive import quiet
from model.network.deformable import DeformableConv


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 4, 5, 7), (0, 4, 5, 7)])
def test_before_training_it_is_an_ordinary_convolution(shape: tuple[int, ...]) -> None:
    conv, features = DeformableConv(4, 3, bias=True), torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(conv(features), F.conv2d(features, conv.weight, conv.bias, padding=1))


def test_its_input_says_where_it_samples() -> None:
    """The offset of each tap's column is 1 everywhere, so that the result moves by one pixel."""
    conv = DeformableConv(1, 1, bias=False)
    torch.nn.init.constant_(conv.offset.bias[1::2], 1.0)
    features = torch.arange(20.0).view(1, 1, 4, 5)
    with torch.no_grad():
        plain = F.conv2d(features, conv.weight, padding=1)
        torch.testing.assert_close(conv(features)[..., 1:3], plain[..., 2:4])


def test_offsets_stop_at_the_limit() -> None:
    conv, features = DeformableConv(1, 1, bias=False, offset_limit=1.0), torch.arange(20.0).view(1, 1, 4, 5)
    with torch.no_grad():
        conv.offset.bias[1::2] = 1.0
        wanted = conv(features)
        conv.offset.bias[1::2] = 50.0
        assert torch.equal(conv(features), wanted)


def test_scripted_gives_the_same_bits() -> None:
    conv = DeformableConv(4, 3, bias=True)
    torch.nn.init.normal_(conv.offset.weight, std=0.3)
    features = torch.randn(2, 4, 5, 7)
    with quiet(), torch.no_grad():
        assert torch.equal(torch.jit.script(conv)(features), conv(features))

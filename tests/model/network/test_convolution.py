"""The 3 x 3 convolution as a layer."""

import pytest
import torch
import torch.nn.functional as F

from model import archive
from model.network.convolution import Convolution


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (2, 5, 4, 9), (0, 5, 4, 4)])
def test_it_is_a_convolution_that_keeps_the_size(shape: tuple[int, ...]) -> None:
    conv, features = Convolution(5, 3, 3), torch.randn(shape)
    wanted = F.conv2d(features, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(features), wanted)
    assert conv(features).shape == (shape[0], 3, *shape[2:])


def test_its_weights_have_the_names_of_any_convolution() -> None:
    assert set(Convolution(5, 3, 3).state_dict()) == {"weight", "bias"}
    assert set(Convolution(5, 3, 3, bias=False).state_dict()) == {"weight"}


def test_scripted_gives_the_same_bits() -> None:
    conv = Convolution(256, 8, 3, bias=False)
    features = torch.randn(1, 256, 46, 50)
    with archive.quiet(), torch.inference_mode():
        assert torch.equal(torch.jit.script(conv)(features), conv(features))

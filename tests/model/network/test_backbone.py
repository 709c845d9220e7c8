"""Features of the backbone and its pyramid; frozen norms, and their folding."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from model.archive import cast_weights, quiet
from model.network.backbone import FeaturePyramid, FrozenNorm, ResNet, fold_norms, unfold_norms
from model.network.convolution import Convolution
from model.network.deformable import DeformableConv
from model.network.structures import Stages


def small_backbone(blocks: tuple[int, int, int, int] = (1, 1, 1, 1)) -> ResNet:
    torch.manual_seed(0)
    return ResNet(blocks, FrozenNorm, width=8, deformable_from=5).eval()


@pytest.mark.parametrize(("count", "height", "width"), [(1, 32, 32), (2, 64, 96), (0, 64, 64)])
def test_stages_have_strides_4_to_32_and_double_their_channels(count: int, height: int, width: int) -> None:
    with torch.no_grad():
        stages = small_backbone()(torch.randn(count, 3, height, width))
    wanted = [(count, 32 * 2**k, height // (4 * 2**k), width // (4 * 2**k)) for k in range(4)]
    assert [tuple(stage.shape) for stage in stages] == wanted


def test_the_first_convolution_of_a_stage_has_its_stride() -> None:
    backbone = small_backbone((1, 2, 1, 1))
    strides = [[conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)] for block in backbone.c3]
    assert strides == [[2, 1, 1], [1, 1, 1]]


def test_stages_are_deformable_from_the_one_that_is_named() -> None:
    backbone = small_backbone()
    kinds = [type(stage[0].conv2) for stage in (backbone.c2, backbone.c3, backbone.c4, backbone.c5)]
    assert kinds == [Convolution, Convolution, Convolution, DeformableConv]


def test_the_frozen_norm_is_torchvisions_in_every_precision() -> None:
    torch.manual_seed(0)
    reference, norm = FrozenBatchNorm2d(6), FrozenNorm(6)
    for buffer in reference.buffers():
        buffer.uniform_(0.5, 2)
    norm.load_state_dict(reference.state_dict())
    features = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(norm(features), reference(features))
    half = norm(features.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), reference(features), atol=2e-2, rtol=1e-2)


def test_the_backbone_runs_in_half_precision_and_stays_channels_last() -> None:
    backbone = small_backbone()
    pixels = torch.randn(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        full = backbone(pixels)
        cast_weights(backbone, torch.float16)
        half = backbone(pixels.half())
    for ours, wanted in zip(half, full, strict=True):
        assert ours.dtype == torch.float16
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert float((ours.float() - wanted).abs().max()) <= 1e-2 * float(wanted.abs().max())


def test_folded_norms_give_the_same_features_and_fold_back() -> None:
    backbone = small_backbone((2, 1, 1, 1))
    for norm in (module for module in backbone.modules() if isinstance(module, FrozenNorm)):
        for buffer in norm.buffers():
            buffer.uniform_(0.5, 2)
    folded = copy.deepcopy(backbone)
    fold_norms(folded)
    assert not any(isinstance(module, FrozenNorm) for module in folded.modules())
    again = small_backbone((2, 1, 1, 1))
    again.load_state_dict(unfold_norms(again, folded.state_dict()))
    pixels = torch.randn(1, 3, 64, 96)
    with quiet(), torch.no_grad():
        wanted, ours, back = backbone(pixels), folded(pixels), again(pixels)
        scripted = torch.jit.script(folded)(pixels)
    for i in range(4):
        assert torch.equal(scripted[i], ours[i])
        torch.testing.assert_close(ours[i], wanted[i], rtol=1e-4, atol=1e-4 * float(wanted[i].abs().max()))
        torch.testing.assert_close(back[i], ours[i], rtol=1e-5, atol=1e-5 * float(wanted[i].abs().max()))


def test_a_folded_block_ends_its_convolutions_with_the_relus() -> None:
    backbone = small_backbone((2, 1, 1, 1))
    fold_norms(backbone)
    relus = {name: conv.relu for name, conv in backbone.named_modules() if isinstance(conv, Convolution)}
    assert {name for name, relu in relus.items() if not relu} == {f"c{level}.0.shortcut.conv" for level in (2, 3, 4, 5)}
    deformable = backbone.c5[0].conv2
    assert (deformable.relu, deformable.bias.shape) == (True, (64,))


def constant_stages(*levels: float) -> Stages:
    """C2..C5 of one channel, each the same number everywhere, of an image of 64 x 64 pixels."""
    return Stages(*(torch.full((1, 1, 16 // 2**k, 16 // 2**k), float(level)) for k, level in enumerate(levels)))


@pytest.mark.parametrize(("context", "added"), [(False, 0.0), (True, 3 * 8.0)])
def test_each_level_sums_its_stage_and_what_is_above(context: bool, added: float) -> None:
    """All 1 x 1 convolutions pass their input on, the 3 x 3 ones too; the context is three times the mean of C5."""
    pyramid = FeaturePyramid([1, 1, 1, 1], 1, context)
    for name, parameter in pyramid.named_parameters():
        nn.init.zeros_(parameter)
        if name.startswith("lateral") and parameter.dim() == 4:
            nn.init.ones_(parameter)
        if name.startswith("output") and parameter.dim() == 4:
            nn.init.dirac_(parameter)
        if name == "context.linear.weight":
            nn.init.constant_(parameter, 3.0)
    with quiet():
        scripted = torch.jit.script(pyramid)
    for module in (pyramid, scripted):
        levels = module(constant_stages(1, 2, 4, 8))
        assert [tuple(level.shape[2:]) for level in levels] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
        for level, wanted in zip(levels, (15, 14, 12, 8, 8), strict=True):
            assert level.unique().tolist() == [wanted + added]


def test_group_norms_follow_each_convolution_of_a_pyramid_that_asks_for_them() -> None:
    pyramid = FeaturePyramid([8, 8, 8, 8], 4, context=False, norm=partial(nn.GroupNorm, 2))
    assert sum(isinstance(module, nn.GroupNorm) for module in pyramid.modules()) == 8


def test_scripted_gives_the_same_bits() -> None:
    backbone, pixels = small_backbone(), torch.randn(2, 3, 64, 96)
    with quiet(), torch.no_grad():
        scripted = torch.jit.script(backbone)
        for ours, theirs in zip(backbone(pixels), scripted(pixels), strict=True):
            assert torch.equal(ours, theirs)

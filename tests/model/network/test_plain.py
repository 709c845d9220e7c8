"""The reference itself, by hand."""

import torch

from model.network.configurations import camvid_demo
from model.network.convolution import Convolution
from model.network.deformable import DeformableConv
from model.network.instance_head import MaskHead
from model.network.plain import (
    PlainConvolution,
    PlainDeformableConv,
    PlainMaskHead,
    PlainPanopticHead,
    panoptic_logits,
    panoptic_map,
    plainly,
    prune_masks,
)
from tests.model.network.examples import panoptic_case


def test_a_mask_mostly_taken_by_a_better_one_of_its_class_is_dropped() -> None:  # quirk Q10
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 4, 9, 13], [0.0, 4, 9, 13]])
    kept, planes = prune_masks(boxes, torch.ones(3, 28, 28), torch.tensor([1, 1, 2]), 0.3, 32, 32)
    assert kept == [0, 2]  # 6 of the second's 10 rows are the first's; the third is of another class
    assert planes.sum((1, 2)).tolist() == [100, 100]


def test_a_candidate_without_a_pixel_is_dropped() -> None:
    boxes, masks = torch.tensor([[0.0, 0, 9, 9]]).expand(2, 4), torch.stack([-torch.ones(28, 28), torch.ones(28, 28)])
    assert prune_masks(boxes, masks, torch.tensor([1, 1]), 0.3, 16, 16)[0] == [1]


def test_masks_that_are_all_dropped_leave_the_first_candidate_without_a_mask() -> None:  # quirk Q6
    kept, planes = prune_masks(torch.tensor([[0.0, 0, 9, 9]]), -torch.ones(1, 28, 28), torch.tensor([1]), 0.3, 16, 16)
    assert kept == [0]
    assert planes.shape == (1, 16, 16)
    assert planes.abs().sum() == 0


def test_channels_are_stuff_instances_and_void() -> None:
    """One stuff class at 1, one thing class at 3, and an instance on the first two of four columns."""
    semantic = torch.stack([torch.full((2, 4), 1.0), torch.full((2, 4), 3.0)])
    logits, kept = panoptic_logits(
        semantic, 1, torch.tensor([[0.0, 0, 1, 1]]), torch.full((1, 28, 28), 0.5), torch.tensor([1]), 0.3
    )
    assert kept == [0]
    assert logits[:, 0].tolist() == [[1, 1, 1, 1], [3.5, 3.5, 0, 0], [0, 0, 3, 3]]
    assert panoptic_map(logits)[0].tolist() == [1, 1, 255, 255]


def test_the_first_of_equal_channels_wins() -> None:
    assert panoptic_map(torch.tensor([2.0, 2.0, 1.0])[:, None, None]).item() == 0


def test_the_plain_head_works_on_the_device_of_its_input() -> None:
    logits, found = panoptic_case(0, 9)
    nothing = found._replace(classes=torch.zeros_like(found.classes))  # placeholders: none is kept
    for each in (found, nothing):
        wanted = PlainPanopticHead(5, 0.3)(logits[None], [each])
        with torch.device("meta"):  # where anything lies that is made without naming a device
            decision = PlainPanopticHead(5, 0.3)(logits[None], [each])
        for name in wanted._fields:
            assert torch.equal(getattr(decision, name), getattr(wanted, name))


def test_the_plain_convolutions_have_the_same_weights_and_answers() -> None:
    torch.manual_seed(0)
    conv, deformable = Convolution(4, 3, 3), DeformableConv(4, 3, bias=True, offset_limit=1.0)
    torch.nn.init.normal_(deformable.offset.weight)
    features = torch.randn(2, 4, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(PlainConvolution(conv)(features), conv(features))
        torch.testing.assert_close(PlainDeformableConv(deformable)(features), deformable(features))


def test_the_plain_mask_head_draws_the_same_masks() -> None:
    torch.manual_seed(0)
    head, pooled, classes = MaskHead(4, 14, 8, 2, 3), torch.randn(3, 4, 14, 14), torch.tensor([2, 0, 1])
    with torch.no_grad():
        found = PlainMaskHead(head).of_class(pooled, classes)
        torch.testing.assert_close(found, head.of_class(pooled, classes), atol=1e-6, rtol=1e-5)


def test_a_plain_network_has_no_form_of_ours_and_leaves_the_network_alone() -> None:
    network = camvid_demo(short_side=64, long_side=64)
    plain = plainly(network)
    held = [module.conv for module in plain.modules() if isinstance(module, (PlainConvolution, PlainDeformableConv))]
    ours = [module for module in plain.modules() if isinstance(module, (Convolution, DeformableConv))]
    assert ours == held  # one inside each plain one
    assert isinstance(plain.panoptic_head, PlainPanopticHead)
    assert any(isinstance(module, Convolution) for module in network.modules())
    assert plain.rpn.conv.conv.weight.data_ptr() != network.rpn.conv.weight.data_ptr()

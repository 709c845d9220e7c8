"""The whole network with every kernel, in Triton's interpreter, against the network without."""

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
if torch.cuda.is_available():
    pytest.skip("a device runs the kernels itself: see test_device.py", allow_module_level=True)

from model import archive
from model.benchmark.__main__ import StandIns, sample_images
from model.kernels import deformable, panoptic, regions
from model.network.upsnet import UPSNet, camvid_demo
from model.training.initialise import initialise

KERNELS = {
    "panoptic": panoptic.panoptic,
    "nms": regions.nms,
    "roi_align": regions.roi_align,
    "deform_conv2d": deformable.deform_conv2d,
}


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """The operators take their kernels on CPU tensors while this is there; their names, as they are called."""
    called: list[str] = []

    def noted(name: str) -> object:
        def run(*arguments: object) -> object:
            called.append(name)
            return KERNELS[name](*arguments)  # type: ignore[operator]

        return run

    library = torch.library.Library("upsnet", "IMPL")
    library.impl("has_kernels", lambda device: True, "CPU", allow_override=True)  # noqa: ARG005
    for name in KERNELS:
        library.impl(name, noted(name), "CPU", allow_override=True)
    yield called
    library._destroy()


def small_network() -> UPSNet:
    """Random weights, offsets of some pixels, and a few proposals that stand for things and win some pixels."""
    torch.manual_seed(0)
    network = camvid_demo(short_side=64, long_side=64).eval()
    initialise(network)
    for name, parameter in network.named_parameters():
        if name.endswith("offset.weight"):
            torch.nn.init.normal_(parameter, std=0.05)
    torch.nn.init.constant_(network.mask_head.logits.bias, 2.0)
    network.rpn.pre_nms = network.rpn.post_nms = 6
    network.candidates = StandIns(0.05, 0.0, 4)
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kernels_give_the_networks_answer(dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    network, images = small_network(), sample_images(64, 64, 2, "cpu")
    archive.cast_weights(network, dtype)
    with torch.inference_mode():
        expected = network(images)
        calls: list[str] = request.getfixturevalue("calls")
        found = network(images)
    assert set(calls) == set(KERNELS)
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.classes.tolist() == wanted.classes.tolist()
        assert float((ours.segment_ids == wanted.segment_ids).float().mean()) >= 0.995
    assert any(int(kind) >= 8 for answer in expected for kind in answer.classes), "no thing to compare"

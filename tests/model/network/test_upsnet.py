"""The whole network: with other forms of its operators, on a device, and what both of its answers share."""

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model.archive import cast_weights, load, script
from model.benchmark.__main__ import sample_images
from model.benchmark.random_weights import StandIns
from model.network.configurations import camvid_demo
from model.network.upsnet import UPSNet
from model.predictor import compute_in_full
from model.training.initialise import initialise
from tests.paths import DEMO


@pytest.fixture
def network() -> UPSNet:
    """Random weights, offsets of some pixels, and a few proposals that stand for things and win some pixels."""
    torch.manual_seed(0)
    network = camvid_demo(short_side=64, long_side=64).eval()
    initialise(network)
    for name, parameter in network.named_parameters():
        if name.endswith("offset.weight"):
            torch.nn.init.normal_(parameter, std=0.05)
    torch.nn.init.constant_(network.mask_head.logits.bias, 2.0)
    network.rpn.pre_nms = network.rpn.post_nms = 6
    network.candidates = StandIns(0.05, 0.0, 0.5, 4)
    return network


def test_an_analysis_runs_the_box_head_once_and_has_the_answer_of_forward(network: UPSNet) -> None:
    runs: list[int] = []
    network.box_head.register_forward_hook(lambda _, given, __: runs.append(len(given[0])))
    images = sample_images(64, 64, 2, "cpu")
    with torch.inference_mode():
        answers = network(images)
        assert runs == [12]  # of two images, six proposals each
        analyses = network.analyze(images)
    assert runs == [12, 12]
    for analysis, answer in zip(analyses, answers, strict=True):
        for name in answer._fields:
            assert torch.equal(getattr(analysis.panoptic, name), getattr(answer, name))
        assert analysis.semantic.shape == (64, 64)
        assert analysis.mask_logits.shape == (len(analysis.boxes), 28, 28)
        assert analysis.classes.shape == analysis.scores.shape == (len(analysis.boxes),)
    assert sum(len(analysis.boxes) for analysis in analyses) > 0, "no instance was found"


def test_an_images_answer_is_that_image_alone(network: UPSNet) -> None:
    images = [image[:, :height] for image, height in zip(sample_images(64, 64, 3, "cpu"), (64, 40, 57), strict=True)]
    with torch.inference_mode():
        for image, together in zip(images, network(images), strict=True):
            alone = network([image])[0]
            assert together.segment_ids.shape == image.shape[1:]
            assert together.classes.tolist() == alone.classes.tolist()
            assert float((together.segment_ids == alone.segment_ids).float().mean()) >= 0.999


def test_its_steps_give_the_answer_of_forward_scripted_too(network: UPSNet) -> None:
    with torch.inference_mode():
        scripted = script(network)
        images = sample_images(64, 64, 2, "cpu")
        wanted = network(images)
        for form in (network, scripted):
            batch = form.prepare(images)
            located = form.locate(batch.pixels, batch.limits)
            counts, most = form.count(located)
            drawn = form.draw(located, form.rows(located, counts))
            for found in (form.finish(located, drawn, counts, most, batch), form(images)):
                for ours, theirs in zip(found, wanted, strict=True):
                    for name in theirs._fields:
                        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_located_things_are_known_by_number_and_by_the_most_of_a_class(network: UPSNet) -> None:
    with torch.inference_mode():
        batch = network.prepare(sample_images(64, 64, 2, "cpu"))
        located = network.locate(batch.pixels, batch.limits)
        drawn = network.panoptic_detections(located)
    assert [len(each.boxes) for each in drawn] == located.detections.counts.tolist() == [4, 4]
    assert [each.max_per_class for each in drawn] == located.detections.most_of_a_class.tolist() == [4, 4]
    assert all(each.mask_logits.shape == (4, 28, 28) for each in drawn)


@pytest.fixture
def kernels() -> dict[str, object]:
    """The Triton form of each operator, run in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("a device runs the kernels itself: see the tests below")
    from model.kernels import deformable, levels, panoptic, regions, segments, transform

    return {
        "panoptic": panoptic.panoptic,
        "nms": regions.nms,
        "roi_align": regions.roi_align,
        "deformable_convolution": deformable.deform_conv2d,
        "add_enlarged": levels.add_enlarged,
        "sum_levels": levels.sum_levels,
        "transform": transform.transform,
        "segments": segments.segments,
    }


@pytest.fixture
def calls(kernels: dict[str, object]) -> Iterator[list[str]]:
    """The operators take their kernels on CPU tensors while this is there; their names, as they are called."""
    called: list[str] = []

    def noted(name: str) -> object:
        def run(*arguments: object) -> object:
            called.append(name)
            return kernels[name](*arguments)  # type: ignore[operator]

        return run

    library = torch.library.Library("upsnet", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)  # torch 2.11 does
        for name in kernels:
            library.impl(name, noted(name), "CPU", allow_override=True)
    yield called
    library._destroy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kernels_give_the_networks_answer(
    network: UPSNet, kernels: dict[str, object], dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    images = sample_images(64, 64, 2, "cpu")
    cast_weights(network, dtype)
    with torch.inference_mode():
        expected = network(images)
        calls: list[str] = request.getfixturevalue("calls")
        found = network(images)
    assert set(calls) == set(kernels)
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.classes.tolist() == wanted.classes.tolist()
        assert share_of_equal(ours.segment_ids, wanted.segment_ids) >= 0.995
    assert any(int(kind) >= 8 for answer in expected for kind in answer.classes), "no thing to compare"


def share_of_equal(a: Tensor, b: Tensor) -> float:
    return float((a.cpu() == b.cpu()).float().mean())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_device_gives_the_cpus_segments(dtype: torch.dtype) -> None:
    size = (360, 480)
    compute_in_full()
    wanted, served = load(DEMO, "cpu")[0], load(DEMO, "cuda")[0]
    cast_weights(served, dtype)
    with torch.inference_mode():
        expected = wanted(sample_images(*size, 2, "cpu"))
        found = served(sample_images(*size, 2, "cuda"))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.classes.tolist() == theirs.classes.tolist()
        assert share_of_equal(ours.segment_ids, theirs.segment_ids) >= 0.995


def host_waits(run: Callable[[], object]) -> int:
    """How often the host waits for the device in a run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")  # itself warns once in a process, in nearly the words of a wait
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing CUDA operation" in str(warning.message) for warning in caught)


@pytest.mark.gpu
def test_a_batch_takes_two_host_round_trips() -> None:
    served = load(DEMO, "cuda")[0]
    images = sample_images(360, 480, 2, "cuda")
    with torch.inference_mode():
        for _ in range(2):  # compiles, and copies tables of sizes there
            served(images)
        assert host_waits(lambda: [image.sum().item() for image in 3 * images]) == 6, "not every wait is counted"
        assert host_waits(lambda: served(images)) in (1, 2)
    assert torch.cuda.get_sync_debug_mode() == 0


@pytest.mark.gpu
def test_kernels_run_on_the_device_of_their_input() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one device")
    size = (360, 480)
    with torch.inference_mode(), torch.cuda.device(0):
        expected = load(DEMO, "cuda:0")[0](sample_images(*size, 1, "cuda:0"))[0]
        found = load(DEMO, "cuda:1")[0](sample_images(*size, 1, "cuda:1"))[0]
    assert torch.equal(found.segment_ids, expected.segment_ids)

"""The archive behind numpy: answers that add up for any image, on the device and in the precision asked for."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model import ops
from model.archive import ArchiveError
from model.interface.categories import Category, Labels
from model.interface.panoptic import Segment
from model.interface.scale import padded_size
from model.kernels import choice
from model.kernels.choice import GpuForm
from model.predictor import (
    Predictor,
    choose_device,
    choose_precision,
    compute_in_full,
    pack,
    to_analysis,
    to_tensor,
    unpack,
)

LABELS = Labels(
    (
        Category(7, "road", False, (128, 64, 128)),
        Category(26, "car", True, (0, 0, 142)),
        Category(24, "man", True, (1, 1, 1)),
    )
)


def test_answers_add_up_for_awkward_sizes(tiny_archive: Path) -> None:
    predictor = Predictor(tiny_archive, "cpu")
    for height, width in [(1, 1), (1, 300), (400, 2), (33, 65)]:
        found = predictor.predict([np.full((height, width, 3), 90, np.uint8)])[0]
        assert found.segment_ids.shape == (height, width)
        ids, areas = np.unique(found.segment_ids[found.segment_ids > 0], return_counts=True)
        assert ids.tolist() == [segment.id for segment in found.segments] == list(range(1, len(ids) + 1))
        assert areas.tolist() == [segment.area for segment in found.segments]
        for segment in found.segments:
            ys, xs = np.nonzero(found.segment_ids == segment.id)
            wide = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
            assert segment.bbox == wide
            assert 0 <= segment.score <= 1


def test_no_images_have_no_answers(tiny_archive: Path) -> None:
    predictor = Predictor(tiny_archive, "cpu")
    assert predictor.predict([]) == []
    assert predictor.analyze([]) == []


def test_an_analysis_has_the_answer_of_a_prediction(tiny_archive: Path) -> None:
    predictor = Predictor(tiny_archive, "cpu")
    predictor.warm_up([(40, 60)], 2)
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    answer, analysis = predictor.predict([image])[0], predictor.analyze([image])[0]
    assert np.array_equal(analysis.panoptic.segment_ids, answer.segment_ids)
    assert analysis.panoptic.segments == answer.segments
    assert analysis.semantic.shape == (40, 60)
    things = set(predictor.categories.things.ids)
    assert set(analysis.category_ids.tolist()) <= things


def test_it_says_what_it_serves(tiny_archive: Path) -> None:
    served = Predictor(tiny_archive, "cpu").served
    assert (served.device, served.precision, served.kernel) == ("cpu", choose_precision("auto", "cpu"), "gather")
    assert served.threads == torch.get_num_threads()
    assert served.name.startswith("tiny@")
    assert served.metadata.configuration == "camvid_demo"


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, kernels_in_use: None) -> Iterator[None]:  # noqa: ARG001
    """The operators take the forms of a GPU on what lies on a CPU; all their kernels are wrong."""
    library = torch.library.Library("upsnet", "IMPL")
    for name, form in ops.ON_GPU.items():
        wrong = GpuForm(name, form.plain, raising if name == "nms" else zeros(form), form.backward)
        monkeypatch.setitem(ops.ON_GPU, name, wrong)
        library.impl(name, wrong, "CPU", allow_override=True)
    yield
    library._destroy()


def raising(*_: object) -> torch.Tensor:
    raise RuntimeError("no such kernel")


def zeros(form: GpuForm) -> Any:
    """What returns zeros in place of the plain form's numbers."""

    def run(*arguments: Any) -> Any:
        found = form.plain(*arguments)
        return torch.zeros_like(found) if isinstance(found, torch.Tensor) else tuple(map(torch.zeros_like, found))

    return run


@pytest.mark.usefixtures("as_on_a_gpu")
def test_kernels_that_fail_are_replaced_and_named_and_answers_are_those_of_the_plain_forms(tiny_archive: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 90, 3), np.uint8)
    predictor = Predictor(tiny_archive, "cpu")
    assert predictor.served.fallbacks == {}
    with pytest.raises(RuntimeError, match="no such kernel"):
        predictor.predict([image])
    predictor.check_kernels()
    assert set(predictor.served.fallbacks) == set(ops.ON_GPU)
    assert predictor.served.fallbacks["nms"] == "it raised RuntimeError: no such kernel"
    assert "of its numbers differ" in predictor.served.fallbacks["panoptic"]
    found = predictor.predict([image])[0]
    choice._replaced.clear()
    wanted = Predictor(tiny_archive, "cpu", kernels="off").predict([image])[0]
    assert choice.switched_off()
    assert found.segments == wanted.segments
    assert np.array_equal(found.segment_ids, wanted.segment_ids)


@pytest.fixture
def rounded_products() -> Iterator[None]:
    """Until the test is over, a GPU may round the inputs of products of float32 numbers."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    yield
    for switch, allowed in zip(switches, before, strict=True):
        switch.allow_tf32 = allowed


@pytest.mark.usefixtures("rounded_products")
def test_products_of_float32_are_not_rounded(tiny_archive: Path) -> None:
    Predictor(tiny_archive, "cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.gpu
@pytest.mark.usefixtures("rounded_products")
def test_float32_on_a_device_is_float32() -> None:
    """A sum of 2304 products: about 1e-6 off in float32, and 1e-3 in TensorFloat-32."""
    torch.manual_seed(0)
    features, weight = torch.randn(1, 256, 64, 64), torch.randn(256, 256, 3, 3) / 48
    rows, columns = torch.randn(512, 2304), torch.randn(2304, 512) / 48
    wanted = [F.conv2d(features.double(), weight.double()), rows.double() @ columns.double()]

    def errors() -> list[float]:
        found = [F.conv2d(features.cuda(), weight.cuda()), rows.cuda() @ columns.cuda()]
        return [float((ours.cpu() - theirs).std()) for ours, theirs in zip(found, wanted, strict=True)]

    rounded = errors()
    compute_in_full()
    assert max(errors()) < 3e-5 < min(rounded)


def test_images_are_padded_as_the_archive_says(tiny_archive: Path) -> None:
    predictor = Predictor(tiny_archive, "cpu")
    test_scale = predictor.served.metadata.test_scale
    for size in ((40, 60), (64, 96), (1, 300), (400, 2)):
        assert predictor.padded_size(*size) == padded_size(*size, **test_scale)


@pytest.mark.parametrize(("there", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_cuda_is_chosen_where_there_is_one(there: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [choose_device(name) for name in ("auto", "cuda:1")[: 1 + there]] == [chosen, "cuda:1"][: 1 + there]


@pytest.mark.parametrize(("name", "reason"), [("cuda", "no CUDA device is found"), ("cuda:2", "torch finds 2")])
def test_a_cuda_device_that_is_not_there_is_refused(name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: name != "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ArchiveError, match=reason):
        choose_device(name)


def test_an_image_that_is_read_only_becomes_a_tensor_of_its_own() -> None:
    image = np.zeros((2, 5, 3), np.uint8)
    image[1, 4] = 1, 2, 3
    image.flags.writeable = False
    tensor = to_tensor(image, "cpu")
    assert tensor.shape == (3, 2, 5)
    assert tensor[:, 1, 4].tolist() == [1, 2, 3]


def test_images_of_a_batch_are_packed_into_one_tensor() -> None:
    images = [np.arange(3 * size, dtype=np.uint8).reshape(-1, size // 2, 3) for size in (10, 2, 6)]
    images.append(images[0][::-1, ::2])
    for image in images:
        image.flags.writeable = False
    packed = pack(images, page_locked=False)
    assert packed.shape == (30 + 6 + 18 + 18,)
    for image, tensor in zip(images, unpack(packed, images), strict=True):
        assert np.array_equal(tensor.permute(1, 2, 0).numpy(), image)
        assert tensor.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr()


@contextlib.contextmanager
def noted_waits() -> Iterator[list[str]]:
    """What torch says of each wait of the host for a device; read it afterwards."""
    waits: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
            waits += [text for warning in told if "called a synchroniz" in (text := str(warning.message))]


@pytest.mark.gpu
def test_uploads_keep_nobody_waiting_and_never_mix(tiny_archive: Path) -> None:
    predictor = Predictor(tiny_archive, "cuda")
    images = [np.full((2000, 3000, 3), level, np.uint8) for level in range(8)]
    predictor._upload(images)  # page-locks memory
    with torch.inference_mode(), noted_waits() as waits:
        uploads = [predictor._upload([image, image[:7]]) for image in images]  # the next before the last has ended
    assert not waits
    for image, (whole, part) in zip(images, uploads, strict=True):
        assert np.array_equal(whole.permute(1, 2, 0).cpu().numpy(), image)
        assert np.array_equal(part.permute(1, 2, 0).cpu().numpy(), image[:7])


@pytest.mark.gpu
def test_a_batch_of_images_takes_two_waits(tiny_archive: Path) -> None:
    """To learn how many things there are, and to fetch the answers."""
    predictor = Predictor(tiny_archive, "cuda")
    images = [np.full((64, 96, 3), level, np.uint8) for level in (10, 200)]
    for _ in range(2):  # compiles, and copies tables of sizes there
        predictor.predict(images)
    with noted_waits() as waits:
        predictor.predict(images)
    assert 1 <= len(waits) <= 2


def test_what_the_network_finds_gets_the_data_sets_ids_and_names() -> None:
    panoptic = SimpleNamespace(
        segment_ids=torch.tensor([[1, 1, 2, 0]]),
        classes=torch.tensor([0, 2]),
        scores=torch.tensor([0.123456, 1.0]),
        areas=torch.tensor([2, 1]),
        boxes=torch.tensor([[0, 0, 2, 1], [2, 0, 1, 1]]),
    )
    found = SimpleNamespace(
        panoptic=panoptic,
        semantic=torch.zeros(1, 4, dtype=torch.uint8),
        boxes=torch.zeros(2, 4),
        scores=torch.ones(2),
        classes=torch.tensor([2, 1]),  # of the things, 0 is the background
        mask_logits=torch.zeros(2, 28, 28),
    )
    analysis = to_analysis(found, LABELS)
    assert analysis.panoptic.segments == (
        Segment(1, 7, "road", False, 0.1235, 2, (0, 0, 2, 1)),
        Segment(2, 24, "man", True, 1.0, 1, (2, 0, 1, 1)),
    )
    assert analysis.category_ids.tolist() == [24, 26]

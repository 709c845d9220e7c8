"""CUDA graphs of the network: the same answers, for many shapes, in bounded memory."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model import archive
from model.benchmark.__main__ import sample_images
from model.graphs import Graphs, can_be_cut
from tests.paths import DEMO

GPU = 2**40  # bytes: room for all


def equal(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(getattr(x, name), getattr(y, name)) for x, y in zip(a, b, strict=True) for name in x._fields)


@pytest.fixture
def served() -> archive.Scripted:
    network = archive.load(DEMO, "cuda")[0]
    archive.cast_weights(network, torch.float16)
    return network


def test_archives_that_are_in_one_piece_have_no_graphs() -> None:
    class Whole(torch.nn.Module):
        def forward(self, images: list[Tensor]) -> list[Tensor]:
            return images

    with archive.quiet():
        assert not can_be_cut(torch.jit.script(Whole()))
    assert can_be_cut(archive.load(DEMO)[0])


@pytest.mark.gpu
@torch.inference_mode()
def test_answers_are_those_of_the_network_again_and_again(served: archive.Scripted) -> None:
    graphs = Graphs(served, GPU)
    batches = [sample_images(height, 480, count, "cuda") for height, count in ((360, 1), (360, 3), (300, 2), (360, 2))]
    wanted = [served(images) for images in batches]
    for _ in range(4):  # plain, captured, replayed
        for images, answers in zip(batches, wanted, strict=True):
            assert equal(graphs(images), answers)
    assert len(graphs._graphs) == len({(len(images), images[0].size(1)) for images in batches})
    assert all(
        graph.replay and any(each.replay for each in graph.drawings.values()) for graph in graphs._graphs.values()
    )


@pytest.mark.gpu
@torch.inference_mode()
def test_graphs_that_were_not_used_for_longest_are_dropped(served: archive.Scripted) -> None:
    graphs = Graphs(served, 1)
    for count in (1, 2):
        images = sample_images(360, 480, count, "cuda")
        for _ in range(3):
            answers = graphs(images)
        assert equal(answers, served(images))
        assert [shape[0] for shape in graphs._graphs] == [count]


@pytest.mark.gpu
@torch.inference_mode()
def test_what_cannot_be_captured_is_answered_without_a_graph(
    served: archive.Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    class Waits:
        prepare, count, rows, finish = served.prepare, served.count, served.rows, served.finish
        draw = served.draw

        def locate(self, pixels: Tensor, limits: Tensor) -> Any:
            float(pixels.amax())  # a wait, which no capture allows
            return served.locate(pixels, limits)

    graphs, images = Graphs(Waits(), GPU), sample_images(360, 480, 1, "cuda")  # type: ignore[arg-type]
    for _ in range(3):
        assert equal(graphs(images), served(images))
    assert [message for message in caplog.messages if message.startswith("CUDA graphs are not used from here on")]

"""CUDA graphs of the network: the same answers, for many shapes, in bounded memory."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from model import archive
from model.benchmark.__main__ import sample_images
from model.graphs import Graph, Graphs, can_be_cut
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
    assert [message for message in caplog.messages if message.startswith("No CUDA graph for batches of (1, 3, ")]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


class Counted:
    """A network that counts its calls; `locate` has no memory for more than two images."""

    def __init__(self) -> None:
        self.located = 0

    def prepare(self, images: list[Tensor]) -> SimpleNamespace:
        return SimpleNamespace(pixels=torch.stack(images), limits=torch.zeros(len(images), 4))

    def locate(self, pixels: Tensor, _: Tensor) -> SimpleNamespace:
        if len(pixels) > 2:
            raise RuntimeError("CUDA out of memory.")
        self.located += 1
        return SimpleNamespace(logits=pixels, pyramid=[pixels])

    def count(self, located: SimpleNamespace) -> tuple[list[int], list[int]]:
        return [1] * len(located.logits), [1] * len(located.logits)

    def rows(self, _: SimpleNamespace, counts: list[int]) -> Tensor:
        return torch.zeros(len(counts))

    def draw(self, located: SimpleNamespace, rows: Tensor) -> Tensor:
        return located.logits.flatten(1).sum(1) + rows

    def finish(self, _: SimpleNamespace, drawn: Tensor, *__: object) -> list[float]:
        return drawn.tolist()


class Recorded:
    """Stands for a graph's capture on a host without a device: a replay does the work again, on the kept tensors."""

    def capture(self, graph: Graph, work: Callable[..., Any], given: tuple[Tensor, ...]) -> None:
        kept = tuple(tensor.clone() for tensor in given)
        found = work(*kept)

        def replay() -> None:
            again = work(*kept)
            for mine, theirs in ((found, again),) if isinstance(found, Tensor) else ((found.logits, again.logits),):
                mine.copy_(theirs)

        graph.given, graph.found, graph.replay = kept, found, replay


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    """Graphs whose captures are recorded; all else is as it is."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    graphs = Graphs(Counted(), GPU)  # type: ignore[arg-type]
    monkeypatch.setattr(graphs, "_capture", Recorded().capture)
    return graphs


def test_a_batch_without_room_leaves_the_others_their_graphs(on_a_cpu: Graphs) -> None:
    for turn in range(4):
        for count in (3, 1, 2):
            images = [torch.full((1, 1, 1), float(turn + i)) for i in range(count)]
            if count == 3:
                with pytest.raises(RuntimeError, match="out of memory"):
                    on_a_cpu(images)
            else:
                assert on_a_cpu(images) == [turn + i for i in range(count)]
        assert {shape[0] for shape in on_a_cpu._graphs} == {1, 2}  # a shortage drops all; these came after it


def test_a_shape_is_captured_the_second_time_and_replayed_from_then_on(on_a_cpu: Graphs) -> None:
    for turn in range(4):
        assert on_a_cpu([torch.full((1, 1, 1), float(turn))]) == [turn]
        (graph,) = on_a_cpu._graphs.values()
        assert (graph.replay is not None) == (turn > 0)
        assert (graph.drawings[1].replay is not None if graph.drawings else False) == (turn > 1)

"""CUDA graphs: many small kernels of the network launched at once, for each shape of work."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model.archive import Scripted
from model.interface.failures import is_shortage, one_line

CUTS = ("prepare", "locate", "count", "rows", "draw", "finish")
"""Methods of the network, in the order of its work; `locate` and `draw` become graphs."""
SHARE = 0.1  # of the GPU's memory for what graphs read and write; those that were not used for longest are dropped
log = logging.getLogger(__name__)


@dataclass
class Graph:
    """The work of one shape.

    Attributes:
        ran: whether it has run as it is, which compiles kernels.
        refused: whether it could not be captured.
        replay: what launches it; None until it is captured.
        given: the memory that it reads.
        found: what it writes.
        drawings: of a batch's graph, those that draw its masks, by their number.
    """

    ran: bool = False
    refused: bool = False
    replay: Callable[[], object] | None = None
    given: tuple[Tensor, ...] = ()
    found: Any = None
    drawings: dict[int, "Graph"] = field(default_factory=dict)


class Graphs:
    """A network on a GPU that replays a graph for a shape that it has seen before.

    An answer is on the host before the next batch begins, so the graphs share their memory: one call at a time.

    Args:
        network: a network of an archive that can be cut, see `can_be_cut`.
        total_memory: bytes that the GPU has.
    """

    def __init__(self, network: Scripted, total_memory: int) -> None:
        self._network = network
        self._graphs: OrderedDict[tuple[int, ...], Graph] = OrderedDict()
        self._budget = SHARE * total_memory
        self._pool = torch.cuda.graph_pool_handle()
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, images: list[Tensor]) -> list[Any]:
        """The network's answers for images of one padded size.

        Raises:
            RuntimeError: as the network raises it. Where memory was short, all graphs are dropped.
        """
        try:
            return self._answer(images)
        except RuntimeError as error:
            if is_shortage(error):
                self._graphs.clear()
            raise

    def _answer(self, images: list[Tensor]) -> list[Any]:
        network = self._network
        with torch.cuda.device(images[0].device):
            batch = network.prepare(images)
            shape = tuple(batch.pixels.shape)
            graph = self._graphs.setdefault(shape, Graph())
            self._graphs.move_to_end(shape)
            located = self._run(graph, network.locate, batch.pixels, batch.limits)
            counts, most = network.count(located)
            rows = network.rows(located, counts)
            if graph.replay is None:
                drawn = network.draw(located, rows)
            else:
                drawing = graph.drawings.setdefault(len(rows), Graph())
                drawn = self._run(drawing, lambda rows: network.draw(graph.found, rows), rows)
            answers = network.finish(located, drawn, counts, most, batch)
            self._make_room()
            return answers  # type: ignore[no-any-return]

    def _run(self, graph: Graph, work: Callable[..., Any], *given: Tensor) -> Any:
        """The work on some tensors: the first time as it is, then captured, then replayed."""
        if graph.replay is None and graph.ran and not graph.refused:
            try:
                self._capture(graph, work, given)
            except RuntimeError as error:  # an operator that waits, say
                if is_shortage(error):
                    raise
                graph.refused = True
                log.warning("No CUDA graph for batches of %s: %s", tuple(given[0].shape), one_line(error))
        if graph.replay is None:
            found = work(*given)
            graph.ran = True
            return found
        for mine, theirs in zip(graph.given, given, strict=True):
            mine.copy_(theirs)
        graph.replay()
        return graph.found

    def _capture(self, graph: Graph, work: Callable[..., Any], given: tuple[Tensor, ...]) -> None:
        self._stream = self._stream or torch.cuda.Stream()  # of this device: torch's own is the first device's
        captured, kept = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in given)
        here = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(captured, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                found = work(*kept)
        finally:
            torch.cuda.set_stream(here)  # a capture that fails leaves its own
        graph.given, graph.found, graph.replay = kept, found, captured.replay

    def _make_room(self) -> None:
        """Drop graphs that were not used for longest."""
        while len(self._graphs) > 1 and sum(map(_held, self._graphs.values())) > self._budget:
            self._graphs.popitem(last=False)


def _held(graph: Graph) -> int:
    """Bytes that a batch's graph keeps from others: what it reads and most of what it writes."""
    kept = list(graph.given)
    if graph.replay is not None:
        kept += [graph.found.logits, *graph.found.pyramid]
        kept += [drawing.found.mask_logits for drawing in graph.drawings.values() if drawing.replay is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


def can_be_cut(network: Scripted) -> bool:
    """Whether an archive's network has the methods; those of version 0.2 and before are in one piece."""
    return all(hasattr(network, name) for name in CUTS)

"""CUDA graphs: what the network does before the host first waits, launched at once for each shape of batch."""

import logging
from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.archive import Scripted

SHARE = 0.1  # of the GPU's memory for what graphs read and write; those that were not used for longest are dropped
log = logging.getLogger(__name__)
CUTS = ("prepare", "locate", "finish")  # methods of the network, in the order of its work


class Graph(NamedTuple):
    """One shape's graph.

    Attributes:
        replay: what launches it.
        pixels: the memory that it reads a batch's pixels from.
        limits: the memory that it reads their limits from.
        located: what it writes.
    """

    replay: Any
    pixels: Tensor
    limits: Tensor
    located: Any


class Graphs:
    """A network on a GPU that replays a graph for a shape of batch that it has seen before.

    An answer is read before the next batch begins, so the graphs share their memory.

    Args:
        network: a network of an archive that can be cut, see `can_be_cut`.
        total_memory: bytes that the GPU has.
    """

    def __init__(self, network: Scripted, total_memory: int) -> None:
        self._network = network
        self._graphs: OrderedDict[tuple[int, ...], Graph] = OrderedDict()
        self._seen: set[tuple[int, ...]] = set()
        self._usable = True
        self._budget = SHARE * total_memory
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, images: list[Tensor]) -> list[Any]:
        """The network's answers for images of one padded size."""
        with torch.cuda.device(images[0].device):
            batch = self._network.prepare(images)
            graph = self._graph(tuple(batch.pixels.shape), batch)
            if graph is None:
                located = self._network.locate(batch.pixels, batch.limits)
            else:
                graph.pixels.copy_(batch.pixels)
                graph.limits.copy_(batch.limits)
                graph.replay()
                located = graph.located
            return self._network.finish(located, batch)  # type: ignore[no-any-return]

    def _graph(self, shape: tuple[int, ...], batch: Any) -> Graph | None:
        """The graph of a shape; None the first time, when kernels are compiled, and where none can be made."""
        if shape not in self._graphs and self._usable and shape in self._seen:
            try:
                self._graphs[shape] = self._capture(batch)
            except RuntimeError as error:  # no memory, or an operator that waits
                self._usable = False
                self._graphs.clear()
                log.warning("CUDA graphs are not used from here on: %s", str(error).strip().splitlines()[-1])
            while sum(map(_held, self._graphs.values())) > self._budget and len(self._graphs) > 1:
                self._graphs.popitem(last=False)
        self._seen.add(shape)
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
        return self._graphs.get(shape)

    def _capture(self, batch: Any) -> Graph:
        pixels, limits = batch.pixels.clone(), batch.limits.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            located = self._network.locate(pixels, limits)
        return Graph(graph.replay, pixels, limits, located)


def _held(graph: Graph) -> int:
    """Bytes that a graph keeps from others: what it reads and what it writes."""
    kept = [graph.pixels, graph.located.logits, *graph.located.pyramid]
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


def can_be_cut(network: Scripted) -> bool:
    """Whether an archive's network has the methods; those of version 0.2 and before are in one piece."""
    return all(hasattr(network, name) for name in CUTS)

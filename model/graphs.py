"""CUDA graphs: what the network does before the host first waits, launched at once for each shape of batch."""

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.archive import Scripted

MOST = 16  # graphs that are kept; each holds its results
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
    """A network on a GPU that replays a graph for a shape of batch that it has seen twice before.

    An answer is read before the next batch begins, so the graphs share their memory.

    Args:
        network: a network of an archive that can be cut, see `can_be_cut`.
    """

    def __init__(self, network: Scripted) -> None:
        self._network = network
        self._graphs: OrderedDict[tuple[int, ...], Graph] = OrderedDict()
        self._seen: dict[tuple[int, ...], int] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, images: list[Tensor]) -> list[Any]:
        """The network's answers for images of one padded size."""
        network = self._network
        batch = network.prepare(images)
        shape = tuple(batch.pixels.shape)
        if shape not in self._graphs and self._seen.setdefault(shape, 0) < 2:
            self._seen[shape] += 1
            return network.finish(network.locate(batch.pixels, batch.limits), batch)  # type: ignore[no-any-return]
        if shape not in self._graphs:
            self._graphs[shape] = self._capture(batch)
            if len(self._graphs) > MOST:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(shape)
        graph = self._graphs[shape]
        graph.pixels.copy_(batch.pixels)
        graph.limits.copy_(batch.limits)
        graph.replay()
        return network.finish(graph.located, batch)  # type: ignore[no-any-return]

    def _capture(self, batch: Any) -> Graph:
        pixels, limits = batch.pixels.clone(), batch.limits.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            located = self._network.locate(pixels, limits)
        return Graph(graph.replay, pixels, limits, located)


def can_be_cut(network: Scripted) -> bool:
    """Whether an archive's network has the methods; those of version 0.2 and before are in one piece."""
    return all(hasattr(network, name) for name in CUTS)

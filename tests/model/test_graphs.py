"""Networks that can be cut, and on a device the answers of a replayed graph."""

import pytest
import torch

from model.archive import script
from model.benchmark.__main__ import sample_images
from model.benchmark.random_weights import random_network
from model.graphs import Graphs, can_be_cut


def test_a_network_of_this_version_can_be_cut_and_one_in_one_piece_cannot() -> None:
    assert can_be_cut(script(random_network("camvid_demo", 64, 64, 3)))
    assert not can_be_cut(torch.jit.script(torch.nn.Identity()))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_replayed_graph_gives_the_networks_answers(dtype: torch.dtype) -> None:
    network = script(random_network("camvid_demo", 64, 64, 3).to("cuda", dtype))
    graphs = Graphs(network, 10**11)
    with torch.inference_mode():
        for count in (1, 2, 1, 2, 1, 2, 1):
            images = [image.roll(count, 1) for image in sample_images(64, 64, count, "cuda")]
            for found, wanted in zip(graphs(images), network(images), strict=True):
                assert found.classes.tolist() == wanted.classes.tolist()
                assert float((found.segment_ids == wanted.segment_ids).float().mean()) >= 0.999
    assert len(graphs._graphs) == 2


@pytest.mark.gpu
def test_graphs_that_hold_too_much_memory_are_dropped_but_for_the_last() -> None:
    graphs = Graphs(script(random_network("camvid_demo", 64, 64, 3).to("cuda")), total_memory=1)
    with torch.inference_mode():
        for count in (1, 1, 2, 2):
            graphs(sample_images(64, 64, count, "cuda"))
    assert [shape[0] for shape in graphs._graphs] == [2]

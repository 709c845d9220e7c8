"""Networks that can be cut, and on a device the answers of a replayed graph."""

import pytest
import torch

from model.archive import script
from model.benchmark.__main__ import sample_images
from model.benchmark.random_weights import random_network
from model.graphs import MOST, Graphs, can_be_cut


def test_a_network_of_this_version_can_be_cut_and_one_in_one_piece_cannot() -> None:
    assert can_be_cut(script(random_network("camvid_demo", 64, 64, 3)))
    assert not can_be_cut(torch.jit.script(torch.nn.Identity()))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_replayed_graph_gives_the_networks_answers(dtype: torch.dtype) -> None:
    network = script(random_network("camvid_demo", 64, 64, 3).to("cuda", dtype))
    graphs = Graphs(network)
    with torch.inference_mode():
        for count in (1, 2, 1, 2, 1, 2, 1):
            images = [image.roll(count, 1) for image in sample_images(64, 64, count, "cuda")]
            for found, wanted in zip(graphs(images), network(images), strict=True):
                assert found.classes.tolist() == wanted.classes.tolist()
                assert float((found.segment_ids == wanted.segment_ids).float().mean()) >= 0.999
    assert len(graphs._graphs) == 2


@pytest.mark.gpu
def test_no_more_graphs_are_kept_than_may_be() -> None:
    graphs = Graphs(script(random_network("camvid_demo", 64, 64, 3).to("cuda")))
    with torch.inference_mode():
        for count in range(1, MOST + 3):
            for _ in range(3):
                graphs(sample_images(64, 64, count, "cuda"))
    assert len(graphs._graphs) == MOST

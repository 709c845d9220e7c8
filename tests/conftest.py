"""Without a device, Triton kernels run on CPU tensors in Triton's interpreter. A Ray cluster where tests ask for it."""

import logging
import os
import sys
from collections.abc import Iterator

import pytest

from model.interface.host import set_threads

if "torch" not in sys.modules:
    set_threads()  # torch reads it once: tests run beside other programs

import torch

from tests import interpreter

os.environ["PYTHON_DOTENV_DISABLED"] = "1"  # a developer's settings are not the tests'

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is first imported
    interpreter.mend()


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Of two nodes on this host, a core each; this process and the commands that it starts are clients of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_USAGE_STATS_REPORT_URL", "http://127.0.0.1:9")  # where else it reports that it is off
        patch.setenv("OMP_NUM_THREADS", "1")  # as Ray sets it: sums in the same order give the same answers
        import ray
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            nodes.add_node(num_cpus=1)
            nodes.wait_for_nodes()
            patch.setenv("RAY_ADDRESS", nodes.address)
            ray.init(address=nodes.address, logging_level=logging.ERROR, log_to_driver=False)
            yield nodes.address
        finally:
            ray.shutdown()
            nodes.shutdown()

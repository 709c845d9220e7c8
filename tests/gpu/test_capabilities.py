"""The kernels compile for every kind of device that is in use, from the A100 on, and run well there."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from tests.model.kernels.occupancy import SHARED, kernels_that_run_well


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["deformable", "levels", "masks", "panoptic", "regions", "segments", "stuff_scores", "transform"]
)
def test_kernels_run_well_on_every_kind_of_device(module: str) -> None:
    """Only one spills: a float32 tile of the deformable convolution, 24 bytes of a thread, on 10.0 with Triton 3.6."""
    assert kernels_that_run_well(module, *SHARED, spilled=24)

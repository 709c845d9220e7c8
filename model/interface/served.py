"""A served model: the one description of it that the service, its workers and the commands share."""

from dataclasses import dataclass, field

from model.interface.metadata import Metadata

PRECISIONS = ("float32", "float16", "bfloat16")
"""Types that a network's weights can have when it is served."""


@dataclass(frozen=True)
class ServedModel:
    """An archive as a predictor has loaded it. The predictor makes it, and a worker sends it to the service.

    Attributes:
        name: the archive's name and the first digits of its sha256.
        metadata: the archive's metadata.
        device: where it runs: `cpu`, `cuda:0`; of several workers on the CPU, `cpu:0` and so on.
        precision: type of the network's weights: `float32`, `float16`, `bfloat16`.
        kernel: form of its deformable convolutions: `gather`, `triton`, `torchvision`.
        threads: threads of the processor that a worker computes with.
        fallbacks: the GPU's kernels that failed their check at the start, and why, in one line each; the slower forms
            of their operators are run in their place.
    """

    name: str
    metadata: Metadata
    device: str
    precision: str
    kernel: str
    threads: int = 1
    fallbacks: dict[str, str] = field(default_factory=dict)

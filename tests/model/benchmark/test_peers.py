"""Other networks: what they need, and in what they compute."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from model.benchmark.peers import in_precision, peer_runs, through_openvino
from model.command import CommandError


def test_peers_without_their_package_say_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CommandError, match=r"--against peers needs transformers and scipy.* Run `uv run --with"):
        peer_runs((64, 96), 1, "cpu", torch.float32)


def test_peers_compute_in_the_precision_of_ours() -> None:
    def product() -> torch.dtype:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    assert in_precision(product, "cpu", torch.float32)() == torch.float32
    assert in_precision(product, "cpu", torch.bfloat16)() == torch.bfloat16


class Detector(nn.Module):
    """As torchvision's: a list of images in, a dict for each out."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [{name: image.sum()[None] for name in ("boxes", "labels", "scores", "masks")} for image in images]


@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "f32"), (torch.bfloat16, "bf16")])
def test_openvino_gets_one_image_at_a_time_and_computes_as_ours(
    dtype: torch.dtype, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def compile_model(network: nn.Module, device: str, wanted: dict[str, Any]) -> Any:
        asked.append((device, wanted))
        return lambda picture: network(torch.from_numpy(picture))

    openvino = SimpleNamespace(
        convert_model=lambda network, example_input: network if len(example_input) == 1 else None,
        Core=lambda: SimpleNamespace(compile_model=compile_model),
    )
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    images = torch.ones(2, 3, 4, 5) * torch.tensor([1.0, 2.0])[:, None, None, None]
    found = through_openvino(Detector(), images, dtype)()
    assert sys.modules["openvino_telemetry"] is None  # its makers hear nothing
    assert [float(masks) for *_, masks in found] == [60.0, 120.0]
    threads = torch.get_num_threads()
    assert asked == [("CPU", {"INFERENCE_PRECISION_HINT": name, "INFERENCE_NUM_THREADS": threads})]

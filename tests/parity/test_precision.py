"""Lower precision on the published configurations, held to what rounding the weights to it costs alone."""

import copy
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from model import archive
from model.convert import convert_weights
from model.network.backbone import fold_norms
from model.network.configurations import CONFIGURATIONS
from model.network.upsnet import UPSNet
from tests.parity.conftest import published_weights, read_arrays


def features(network: UPSNet, photo: Tensor) -> list[Tensor]:
    """P2..P6 and the semantic logits."""
    pyramid = network.features(network.transform([photo]).pixels)
    return [level.float() for level in (*pyramid, network.semantic_head(pyramid))]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["public_coco_r50_s0", "public_cityscapes_r50_s0"])
def test_lower_precision_errs_at_most_twice_as_much_as_its_rounded_weights(
    name: str, dtype: torch.dtype, parity: Path, seeded_weights: ModuleType
) -> None:
    facts = json.loads((parity / f"{name}.json").read_text())
    network = CONFIGURATIONS[facts["config"]](short_side=facts["short"], long_side=facts["max"]).eval()
    network.load_state_dict(convert_weights(published_weights(parity, seeded_weights, facts), facts["config"]))
    fold_norms(network)
    photo = read_arrays(parity / "public_photo_000000142238.npz")["bgr"].flip(2).permute(2, 0, 1)
    half, rounded = copy.deepcopy(network), copy.deepcopy(network)
    archive.cast_weights(half, dtype)
    archive.cast_weights(rounded, dtype)
    archive.cast_weights(rounded, torch.float32)
    with torch.inference_mode():
        exact, of_half, of_rounded = (features(each, photo) for each in (network, half, rounded))
    for wanted, found, least in zip(exact, of_half, of_rounded, strict=True):
        assert 0 < float((found - wanted).std()) < 2 * float((least - wanted).std())

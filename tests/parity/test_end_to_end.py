"""Published names -> convert -> export -> predict -> the published network's final map."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from model import convert, export
from model.interface import categories
from model.predict import __main__ as predict
from tests.parity.conftest import published_weights, read_arrays


@pytest.mark.parametrize("name", ["public_coco_r50_s0", "public_cityscapes_r50_s0"])
def test_the_commands_give_the_published_map(
    parity: Path, seeded_weights: ModuleType, tmp_path: Path, name: str
) -> None:
    facts = json.loads((parity / f"{name}.json").read_text())
    torch.save(published_weights(parity, seeded_weights, facts), tmp_path / "official.pth")
    bgr = read_arrays(parity / "public_photo_000000142238.npz")["bgr"].numpy()
    Image.fromarray(bgr[..., ::-1]).save(tmp_path / "photo.png")

    checkpoint, archive, out = tmp_path / "ours.safetensors", tmp_path / "ours.pt", tmp_path / "answers"
    convert.main([str(tmp_path / "official.pth"), "--config", facts["config"], "--out", str(checkpoint)])
    scale = ["--short-side", str(facts["short"]), "--long-side", str(facts["max"])]
    export.main([str(checkpoint), "--out", str(archive), *scale])
    assert predict.main([str(archive), str(tmp_path / "photo.png"), "--out", str(out), "--device", "cpu"]) == 0

    content = json.loads((out / "panoptic.json").read_text())
    segments = content["annotations"][0]["segments_info"]
    ids = np.asarray(Image.open(out / "panoptic/photo.png")).astype(int) @ [1, 256, 65536]
    labels = categories.load(convert.DATASETS[facts["config"]])
    index = {label.id: i for i, label in enumerate(labels)}
    kinds = np.full(ids.shape, 255)
    for segment in segments:
        kinds[ids == segment["id"]] = index[segment["category_id"]]

    unified = read_arrays(parity / f"{name}.npz")["unified"].numpy().astype(int)
    wanted = np.where(unified[..., 0] == 255, -1, unified[..., 0] * 1000 + unified[..., 1])
    assert (kinds == unified[..., 0]).mean() >= 0.995
    assert len(segments) == len(np.unique(wanted[wanted >= 0]))
    pairs, counts = np.unique(np.stack([wanted.ravel(), ids.ravel()]), axis=1, return_counts=True)
    best: dict[int, int] = {}
    for there, count in zip(pairs[0].tolist(), counts.tolist(), strict=True):
        best[there] = max(best.get(there, 0), count)
    agreement = sum(best.values()) / ids.size
    print(f"{name}: {100 * agreement:.4f} % of pixels in the same segment")
    assert agreement >= 0.995

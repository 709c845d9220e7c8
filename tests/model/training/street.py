"""A tiny street: photos with two cars and a crowd on a road, as a COCO-panoptic folder, and a short run on it."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model.checkpoint import Checkpoint, build_network
from model.datasets.load import load_annotations
from model.datasets.records import Annotations
from model.interface import categories
from model.interface.codec import encode_png
from model.training.dataset import PanopticDataset
from model.training.initialise import initialise
from model.training.loop import Trainer
from model.training.processes import Processes
from model.training.recipe import Recipe
from tests.ids import ids_to_rgb

RECIPE = Recipe(
    "camvid_demo",
    6,
    learning_rate=1e-3,
    processes=1,
    batch=2,
    optimizer="adamw",
    warmup_steps=0,
    crop=(64, 96),
    rois=16,
    pre_nms=50,
    post_nms=30,
    average_decay=0.9,
    freeze_stem=False,
    crowd_proposals=False,
)
ALONE = Processes(0, 1, torch.device("cpu"))


def write_street(folder: Path, photos: int = 4, height: int = 64, width: int = 96) -> list[str]:
    """Write the folder; the options that name its parts."""
    for name in ("photos", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    labels = {label.name: label for label in categories.load("camvid")}
    images, annotations = [], []
    for number in range(photos):
        rng = np.random.default_rng(number)
        ids = np.full((height, width), 1)
        ids[: height // 2] = 2
        ids[20:44, 8 + 4 * number : 40 + 4 * number] = 300
        ids[24:40, 56:80] = 400
        ids[0:6, 0:12] = 0
        ids[50:60, 10:20] = 500
        colors = {0: (0, 0, 0), 1: (90, 90, 90), 2: (120, 160, 250), 300: (200, 20, 20), 400: (20, 20, 200)}
        rgb = np.zeros((height, width, 3))
        for value, color in {**colors, 500: (20, 200, 20)}.items():
            rgb[ids == value] = color
        rgb = (rgb + rng.integers(0, 20, rgb.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"photos/{number}.png")
        (folder / f"masks/{number}.png").write_bytes(encode_png(ids_to_rgb(ids)))
        images.append({"id": number, "file_name": f"{number}.png"})
        names = {1: "road", 2: "sky", 300: "car", 400: "car", 500: "pedestrian"}
        segments = [{"id": i, "category_id": labels[n].id, "iscrowd": int(i == 500)} for i, n in names.items()]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": categories.load("camvid").to_json(),
    }
    (folder / "street.json").write_text(json.dumps(content))
    paths = {"--annotations": "street.json", "--images": "photos", "--masks": "masks"}
    return [part for option, name in paths.items() for part in (option, str(folder / name))]


def read_street(folder: Path) -> Annotations:
    """Write the folder and read it."""
    write_street(folder)
    return load_annotations(folder / "street.json", folder / "photos", folder / "masks")


def trainer(folder: Path, out: Path, recipe: Recipe = RECIPE) -> Trainer:
    """A run that has not begun, on a new street."""
    annotations = read_street(folder)
    torch.manual_seed(0)
    network = build_network("camvid_demo", annotations.categories)
    initialise(network)
    dataset = PanopticDataset(annotations, recipe, network.transform)
    return Trainer(Checkpoint("camvid_demo", annotations.categories, {}), network, dataset, recipe, out, ALONE)

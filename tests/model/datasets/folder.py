"""A COCO-panoptic folder of one photo, 4 pixels wide: a car over a road."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.interface import categories
from model.interface.codec import encode_png
from tests.ids import ids_to_rgb

LABELS = categories.parse([{"id": 26, "name": "car", "isthing": 1}, {"id": 7, "name": "road", "isthing": 0}])
CAR = {"id": 300, "category_id": 26}
ROAD = {"id": 70_000, "category_id": 7}
IDS = np.array([[300] * 4, [70_000] * 4])


def write_folder(
    folder: Path, segments: list[dict[str, Any]], ids: NDArray[np.integer] = IDS
) -> tuple[Path, Path, Path]:
    """The JSON and the folders of photos and PNGs."""
    for name in ("photos", "masks"):
        (folder / name).mkdir(exist_ok=True)
    Image.new("RGB", ids.shape[::-1]).save(folder / "photos/a.png")
    (folder / "masks/a.png").write_bytes(encode_png(ids_to_rgb(ids)))
    content = {
        "images": [{"id": 3, "file_name": "a.png"}],
        "annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": segments}],
        "categories": LABELS.to_json(),
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json", folder / "photos", folder / "masks"


def write_cities(folder: Path, *cities: str) -> tuple[Path, Path, Path]:
    """A photo in each city's folder; all have the same file name."""
    path, photos, masks = write_folder(folder, [CAR, ROAD])
    content = {"images": [], "annotations": [], "categories": LABELS.to_json()}
    for number, city in enumerate(cities, start=1):
        for files in (photos, masks):
            (files / city).mkdir()
            (files / city / "1.png").write_bytes((files / "a.png").read_bytes())
        content["images"].append({"id": number, "file_name": f"{city}/1.png"})
        segments = copy.deepcopy([CAR, ROAD])
        content["annotations"].append({"image_id": number, "file_name": f"{city}/1.png", "segments_info": segments})
    path.write_text(json.dumps(content))
    return path, photos, masks

"""What is right in a folder that `model.predict` wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from model.datasets.load import load_annotations
from model.datasets.records import read_ids


def check(folder: Path, photos: Path) -> dict[str, list[Any]]:
    """panopticapi's rules, areas and boxes; the segments of each photo."""
    content = json.loads((folder / "panoptic.json").read_text())
    records = load_annotations(folder / "panoptic.json", photos, folder / "panoptic").images
    assert [image["file_name"] for image in content["images"]] == [
        str(record.photo.relative_to(photos)) for record in records
    ]
    for record, image, annotation in zip(records, content["images"], content["annotations"], strict=True):
        ids = read_ids(record)
        assert ids.shape == (image["height"], image["width"])
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(rows)
            x, y = int(columns.min()), int(rows.min())
            assert segment["bbox"] == [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
    return {
        image["file_name"]: annotation["segments_info"]
        for image, annotation in zip(content["images"], content["annotations"], strict=True)
    }

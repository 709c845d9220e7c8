"""Box and mask AP of the detection path, by pycocotools."""

import contextlib
import io
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.command import CommandError
from model.datasets.records import ImageId, ImageRecord
from model.interface.categories import Labels
from model.predictor import Analysis

MASK_PADDING = 30 / 28


class EncodedInstances(NamedTuple):
    """The things of one image in COCO's form, with masks as run lengths.

    Attributes:
        number: the image's id.
        size: its height and width.
        truth: annotated things; `AveragePrecision` numbers them and their images.
        found: detections.
    """

    number: ImageId
    size: tuple[int, int]
    truth: list[dict[str, Any]]
    found: list[dict[str, Any]]


def encode_instances(
    record: ImageRecord, ids: NDArray[np.int32], found: Analysis, categories: Labels
) -> EncodedInstances:
    """The annotated things of an image, from its (H, W) segment ids, and those that the network found."""
    from pycocotools import mask as coder

    height, width = ids.shape
    truth: list[dict[str, Any]] = []
    for segment in record.segments:
        if segment.category_id in categories.things.index:
            code = coder.encode(np.asfortranarray(ids == segment.id, np.uint8))
            entry = {"category_id": segment.category_id, "iscrowd": int(segment.iscrowd), "segmentation": code}
            truth.append({**entry, "area": float(coder.area(code)), "bbox": coder.toBbox(code).tolist()})
    detections = []
    for box, score, category, logits in zip(
        found.boxes, found.scores, found.category_ids, found.mask_logits, strict=True
    ):
        code = coder.encode(np.asfortranarray(paste(logits, box, height, width), np.uint8))
        x1, y1, x2, y2 = (float(side) for side in box)
        entry = {"category_id": int(category), "score": float(score), "segmentation": code}
        detections.append({**entry, "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1]})
    return EncodedInstances(record.id, (height, width), truth, detections)


class AveragePrecision:
    """Box and mask AP over images, added one by one.

    Args:
        categories: the classes, whose things are scored.

    Raises:
        CommandError: pycocotools is not installed.
    """

    def __init__(self, categories: Labels) -> None:
        if find_spec("pycocotools") is None:
            raise CommandError("AP needs pycocotools. Install it: uv sync --extra train")
        self._things = categories.things
        self._images: list[EncodedInstances] = []

    def add(self, instances: EncodedInstances) -> None:
        """Add one image."""
        self._images.append(instances)

    def result(self) -> dict[str, float]:
        """`box_ap` and `mask_ap`, 0-100, the mean over IoU 0.50 to 0.95; 0 without any detection or any annotation."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        # pycocotools takes numbers alone as ids. Its order is that of the ids, by which it breaks ties of scores.
        ordered = sorted(self._images, key=lambda each: (isinstance(each.number, str), each.number))
        images: list[dict[str, int]] = []
        annotated: list[dict[str, Any]] = []
        detected: list[dict[str, Any]] = []
        for number, each in enumerate(ordered, start=1):
            height, width = each.size
            images.append({"id": number, "height": height, "width": width})
            for entry in each.truth:
                annotated.append(entry)
                entry["id"] = len(annotated)
            for entry in [*each.truth, *each.found]:
                entry["image_id"] = number
            detected += each.found
        if not detected or not annotated:
            return {"box_ap": 0.0, "mask_ap": 0.0}
        scores = {}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            truth = COCO()
            categories = self._things.to_json()
            truth.dataset = {"info": {}, "images": images, "annotations": annotated, "categories": categories}
            truth.createIndex()
            found = truth.loadRes(detected)
            for name, kind in (("box_ap", "bbox"), ("mask_ap", "segm")):
                scorer = COCOeval(truth, found, kind)
                scorer.evaluate()
                scorer.accumulate()
                scorer.summarize()
                scores[name] = 100 * max(float(scorer.stats[0]), 0.0)
        return scores


def paste(logits: NDArray[np.float32], box: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    """(height, width) mask of a thing: padded by one cell, enlarged with its box to pixels, and cut at 0.5.

    Args:
        logits: (28, 28) mask logits over the box.
        box: (4,) xyxy in pixels of the image.
        height: the image's height.
        width: the image's width.
    """
    scores = F.pad(torch.from_numpy(logits).sigmoid(), (1, 1, 1, 1))
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * MASK_PADDING
    (x1, y1), (x2, y2) = (centre - half).astype(int), (centre + half).astype(int)
    size = [max(int(y2 - y1) + 1, 1), max(int(x2 - x1) + 1, 1)]
    drawn = F.interpolate(scores[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy() > 0.5
    canvas = np.zeros((height, width), bool)
    top, left = max(y1, 0), max(x1, 0)
    part = drawn[top - y1 : max(height - y1, 0), left - x1 : max(width - x1, 0)]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas

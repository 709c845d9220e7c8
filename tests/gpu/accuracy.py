"""What precision costs: answers against those of the CPU and of the published network, alone and in batches."""

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model import archive, export
from model.checkpoint import Checkpoint
from model.convert import DATASETS, convert_weights
from model.interface import categories
from model.interface.panoptic import Panoptic, Pixels
from model.interface.served import PRECISIONS
from model.predictor import Predictor
from tests.gpu.measure import Bench
from tests.gpu.rows import Row
from tests.parity.conftest import published_weights, read_arrays
from tests.paths import DEMO, EXAMPLES, SHARED

PHOTOS = SHARED / "data/camvid/train"
PARITY = SHARED / "upsnet/parity"


def allow_tf32(allowed: bool) -> None:
    """Whether products and convolutions of float32 may round their inputs to 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def predictors(bench: Bench, path: Path) -> Iterator[tuple[str, Predictor]]:
    """An archive in each precision that a predictor takes, and in float32 with TF32; the last leaves TF32 off."""
    for precision in ("float32",) if bench.dry else PRECISIONS:
        yield precision, Predictor(path, bench.device, precision)
        if precision == "float32" and not bench.dry:
            predictor = Predictor(path, bench.device, precision)  # another: its CUDA graphs hold what was chosen
            allow_tf32(True)
            yield "float32 with TF32", predictor
            allow_tf32(False)


@cache
def photos(bench: Bench) -> list[Pixels]:
    """The bundled photos, and some of CamVid's where they are at hand."""
    paths = sorted(EXAMPLES.glob("*.jpg")) + sorted(PHOTOS.glob("*.jpg"))[:24]
    pictures = [Image.open(path).convert("RGB") for path in paths[: 1 if bench.dry else None]]
    return [np.asarray(picture.resize((96, 64)) if bench.dry else picture) for picture in pictures]


@cache
def answers_of_the_cpu(bench: Bench) -> list[Panoptic]:
    """What the demo archive says of the photos on a CPU, in float32."""
    predictor = Predictor(DEMO, "cpu", "float32")
    return [predictor.predict([photo])[0] for photo in photos(bench)]


def kinds(answer: Panoptic) -> NDArray[np.int64]:
    """(H, W): the category of each pixel, 0 for void."""
    table = np.zeros(256, np.int64)
    for segment in answer.segments:
        table[segment.id] = segment.category_id
    return table[answer.segment_ids]


def alike(
    found: Sequence[Panoptic], wanted: Sequence[Panoptic], of: Callable[[Panoptic], NDArray[np.integer]]
) -> list[float]:
    """Per cent of pixels of each photo that are the same in two answers."""
    return [100 * float((of(a) == of(b)).mean()) for a, b in zip(found, wanted, strict=True)]


def in_batches(predictor: Predictor, pictures: Sequence[Pixels]) -> list[Panoptic]:
    """The answers to photos, eight of one padded size at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, picture in enumerate(pictures):
        groups.setdefault(predictor.padded_size(*picture.shape[:2]), []).append(i)
    found: dict[int, Panoptic] = {}
    for places in groups.values():
        for start in range(0, len(places), 8):
            chosen = places[start : start + 8]
            found |= dict(zip(chosen, predictor.predict([pictures[i] for i in chosen]), strict=True))
    return [found[i] for i in range(len(pictures))]


def demo_archive(bench: Bench) -> Iterator[Row]:
    """The demo archive in each precision: against the CPU, in batches against alone, and twice."""
    pictures, wanted = photos(bench), answers_of_the_cpu(bench)
    for name, predictor in predictors(bench, DEMO):
        alone = [predictor.predict([picture])[0] for picture in pictures]
        shares = alike(alone, wanted, kinds)
        lists = sum(
            [s.category_id for s in a.segments] == [s.category_id for s in b.segments]
            for a, b in zip(alone, wanted, strict=True)
        )
        note = f"worst photo {min(shares):.3f} %; the same segments on {lists} of {len(pictures)} photos"
        yield Row(f"demo archive, {name}: pixels of the CPU's class", float(np.mean(shares)), "%", note)
        together = alike(in_batches(predictor, pictures), alone, lambda answer: answer.segment_ids)
        yield Row(
            f"demo archive, {name}: in batches of 8 as alone",
            float(np.mean(together)),
            "%",
            f"worst photo {min(together):.3f} %",
        )
        again = predictor.predict(pictures[:1])[0]
        same = bool((again.segment_ids == alone[0].segment_ids).all())
        yield Row(f"demo archive, {name}: the same answer twice", str(same), failed=not same)


def published_network(bench: Bench) -> Iterator[Row]:
    """The published network with seeded weights: pixels of the class that its authors' program gives."""
    if bench.dry or not PARITY.is_dir():
        return
    facts = json.loads((PARITY / "public_coco_r50_s0.json").read_text())
    unified = read_arrays(PARITY / "public_coco_r50_s0.npz")["unified"].numpy()[..., 0].astype(int)
    photo = np.ascontiguousarray(read_arrays(PARITY / "public_photo_000000142238.npz")["bgr"].numpy()[..., ::-1])
    labels = categories.load(DATASETS[facts["config"]])
    place = {label.id: i for i, label in enumerate(labels)} | {0: 255}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "published.pt")
        export_published(facts, path)
        for name, predictor in predictors(bench, path):
            found = predictor.predict([photo])[0]
            classes = np.vectorize(place.__getitem__)(kinds(found))
            note = f"{len(found.segments)} segments"
            yield Row(
                f"published network, {name}: pixels of its class", 100 * float((classes == unified).mean()), "%", note
            )


def export_published(facts: dict[str, object], path: Path) -> None:
    """Write the archive of the published network with the weights that the arrays were made with."""
    spec = importlib.util.spec_from_file_location("seeded_weights", PARITY / "seeded_weights.py")
    assert spec and spec.loader
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    config = str(facts["config"])
    weights = convert_weights(published_weights(PARITY, seeded, facts), config)
    scale = {"short_side": int(str(facts["short"])), "long_side": int(str(facts["max"]))}
    checkpoint = Checkpoint(config, categories.load(DATASETS[config]), weights, test_scale=scale)
    archive.save(*export.export(checkpoint, "", "published", False), path)


PARTS = (demo_archive, published_network)

"""`python -m model.benchmark`: where the network's time and memory go, and how it compares.

    python -m model.benchmark weights/coco_r50.pt --size 800x1333 --batch 1,2,4,8 --against plain,peers --json out.json
    python -m model.benchmark coco_r50 --size 800x1333          # random weights: `--instances` boxes stand for things
    python -m model.benchmark --part panoptic_head --instances 20,100
    python -m model.benchmark --part deformable --threads 1

Times are medians of alternated rounds, by the clock and of the processor: where other work shares the machine, read
`cpu_ratio` with `--threads 1`. `plain` is the same weights with the convolutions of torch and torchvision and
every panoptic logit at full size; its agreement is the share of pixels of the same class. Weights have the
precision in which they are served; peers compute under torch's autocast.
"""

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from model import archive, export, memory
from model.benchmark import parts
from model.benchmark.timing import Times, Work, alternate, peak_bytes
from model.checkpoint import Checkpoint
from model.command import run
from model.network.backbone import fold_norms
from model.network.instance_head import Candidates
from model.network.plain import plainly
from model.network.structures import Detections, PaddedDetections
from model.network.upsnet import CONFIGURATIONS, UPSNet
from model.predictor import DTYPES, choose_device, choose_precision
from model.training.initialise import initialise


class StandIns(Candidates):
    """Random weights find nothing: proposals, four of each class, stand for the panoptic path's detections."""

    def panoptic(self, boxes: Tensor, scores: Tensor) -> PaddedDetections:
        """The first `limit` boxes of each image, at least one of them, with descending scores."""
        images, count = boxes.size(0), min(self.limit, boxes.size(1))
        index = torch.arange(count, device=boxes.device)
        classes = torch.div(index, 4, rounding_mode="floor") % (scores.size(2) - 1) + 1
        found = torch.linspace(0.99, 0.61, count, device=boxes.device)
        counts = torch.full((images,), count, device=boxes.device)
        return PaddedDetections(boxes[:, :count, 1], found.expand(images, -1), classes.expand(images, -1), counts)


def sample_images(height: int, width: int, count: int, device: str) -> list[Tensor]:
    """(3, height, width) uint8 pictures, each a shift of the first."""
    picture = export.sample_picture(height, width)
    return [picture.roll(37 * i, dims=2).contiguous().to(device) for i in range(count)]


def open_network(source: str, size: tuple[int, int], instances: int, device: str) -> UPSNet:
    """An archive's network, or a configuration's with random weights, that works at `size`: nothing is resized."""
    sides = {"short_side": min(size), "long_side": max(size)}
    if source in CONFIGURATIONS:
        torch.manual_seed(0)
        network = CONFIGURATIONS[source](**sides).eval()
        initialise(network)
        network.candidates = StandIns(0.05, 0.0, instances)
    else:
        checkpoint = Checkpoint.of_archive(Path(source))
        checkpoint.test_scale |= sides
        network = checkpoint.build()
    return network.to(device)


def stage_works(network: UPSNet, images: list[Tensor]) -> dict[str, Work]:
    """Each stage of the network as something to run, fed with what the stages before it give."""
    batch = network.transform(images)
    pixels = batch.pixels.to(network.dtype()).contiguous(memory_format=torch.channels_last)
    stages = network.backbone(pixels)
    pyramid = network.pyramid(stages)
    proposals = network.rpn(pyramid, batch.sizes)

    def detect() -> list[Detections]:
        return network.panoptic_detections(pyramid, network.predict_boxes(pyramid, proposals, batch.sizes))

    detections = detect()
    logits = network.semantic_head(pyramid).float()
    decisions = network.panoptic_head(logits, detections)
    return {
        "transform": lambda: network.transform(images),
        "backbone": lambda: network.backbone(pixels),
        "pyramid": lambda: network.pyramid(stages),
        "rpn": lambda: network.rpn(pyramid, batch.sizes),
        "instance_head": detect,
        "semantic_head": lambda: network.semantic_head(pyramid),
        "panoptic_head": lambda: network.panoptic_head(logits, detections),
        "segments": lambda: [network.merge(d, logits[i], detections[i], batch, i) for i, d in enumerate(decisions)],
    }


def measure_stages(network: UPSNet, images: list[Tensor], rounds: int, device: str) -> dict[str, dict[str, Any]]:
    """Seconds, share of the sum, and bytes of each stage."""
    works = stage_works(network, images)
    times = alternate(works, rounds, device).seconds
    total = sum(times.values())
    return {
        name: {"seconds": taken, "share": taken / total, "bytes": peak_bytes(works[name], device)}
        for name, taken in times.items()
    }


def measure_batches(served: Any, images: list[Tensor], counts: list[int], rounds: int, device: str) -> dict[str, Any]:
    """Pictures a second of each batch size."""
    result = {}
    for count in tqdm(counts, desc="batch sizes", unit="size", disable=None):
        served(images[:count])  # twice before it counts, as at warm-up
        times = alternate({"ours": lambda: served(images[:count])}, rounds, device)  # noqa: B023
        result[str(count)] = {"images_per_second": count / times.seconds["ours"]}
        say(f"batch {count}: {count / times.seconds['ours']:.3f} images/s")
    return result


def agreement(a: Any, b: Any) -> float:
    """Share of the pixels that have the same class, or none, in two answers."""
    kinds = [F.pad(each.classes, [1, 0], value=-1)[each.segment_ids.long()] for each in (a, b)]
    return float((kinds[0] == kinds[1]).double().mean())


def compare_plain(network: UPSNet, served: Any, images: list[Tensor], rounds: int, device: str) -> dict[str, Any]:
    """The served network against the plain one."""
    plain = plainly(network)
    agrees = min(agreement(a, b) for a, b in zip(served(images), plain(images), strict=True))
    times = alternate({"ours": lambda: served(images), "plain": lambda: plain(images)}, rounds, device)
    return {**times.ratios("plain"), "agreement": agrees, **rates(times, len(images))}


def compare_peers(
    served: Any, images: list[Tensor], works: dict[str, Work], rounds: int, device: str
) -> dict[str, Any]:
    """The served network against other networks."""
    times = alternate({"ours": lambda: served(images), **works}, rounds, device)
    return {**rates(times, len(images)), **{name: times.ratios(name) for name in works}}


def rates(times: Times, count: int) -> dict[str, Any]:
    """Times of works that take `count` pictures each, and pictures a second."""
    return {**times._asdict(), "images_per_second": {name: count / taken for name, taken in times.seconds.items()}}


def measure_part(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """One part alone, printed as it comes."""
    compare: Callable[..., dict[str, Any]] = getattr(parts, args.part)
    height, width = (side + -side % 32 for side in args.size)
    sizes = args.instances if args.part == "panoptic_head" else [256]
    stride = parts.STRIDES[args.part]
    rows = []
    for size in sizes:
        rows.append(compare(height // stride, width // stride, size, args.rounds, device))
        say(f"{args.part} {rows[-1]}")
    return {args.part: rows}


def measure_network(args: argparse.Namespace, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Everything that the arguments ask for, printed as it comes."""
    count, (height, width) = max(args.batch), args.size
    works = parts.peers(args.size, count, device, dtype) if "peers" in args.against else {}
    network = open_network(args.source, args.size, args.instances[0], device)
    folded = copy.deepcopy(network)
    fold_norms(folded)
    for each in (network, folded):
        archive.cast_weights(each, dtype)
    served = export.script(folded)
    images = sample_images(height, width, count, device)
    result: dict[str, Any] = {"stages": measure_stages(folded, images[:1], args.rounds, device)}
    for name, row in result["stages"].items():
        memory = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:9.1f} MB"
        say(f"{name:14} {1000 * row['seconds']:9.1f} ms {100 * row['share']:5.1f} % {memory}")
    result["batches"] = measure_batches(served, images, args.batch, args.rounds, device)
    if "plain" in args.against:
        result["plain"] = compare_plain(network, served, images, args.rounds, device)
        say(f"plain: {result['plain']}")
    if works:
        result["peers"] = compare_peers(served, images, works, args.rounds, device)
        say(f"peers: {result['peers']}")
    return result


def measure(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """What was measured, and how."""
    height, width = args.size
    how = {"threads": torch.get_num_threads(), "device": device, "size": f"{height}x{width}"}
    if args.part:
        return {**how, "precision": "float32", **measure_part(args, device)}
    precision = choose_precision(args.precision, device)
    return {**how, "precision": precision, **measure_network(args, device, DTYPES[precision])}


def say(line: str) -> None:
    """Print a line without breaking a progress bar."""
    tqdm.write(line)


def numbers(text: str) -> list[int]:
    """`1,2,4` as numbers, each at least 1."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def height_by_width(text: str) -> tuple[int, int]:
    """`800x1333` as height and width, each at least 32."""
    height, width = (int(part) for part in text.split("x"))
    if min(height, width) < 32:
        raise ValueError
    return height, width


def names(text: str) -> list[str]:
    """`plain,peers` as a list of those two."""
    found = text.split(",")
    if not set(found) <= {"plain", "peers"}:
        raise ValueError
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m model.benchmark", description=__doc__.split("\n")[0])
    parser.epilog = "Example: python -m model.benchmark weights/camvid_demo.pt --size 360x480 --against plain"
    parser.add_argument("source", nargs="?", help=f"archive, or {', '.join(CONFIGURATIONS)} with random weights")
    parser.add_argument("--size", type=height_by_width, default=(800, 1333), help="HEIGHTxWIDTH (default: 800x1333)")
    parser.add_argument("--batch", type=numbers, default=[1], help="batch sizes, comma-separated (default: 1)")
    parser.add_argument("--against", type=names, default=[], help="plain, peers or both, at the largest batch")
    parser.add_argument("--part", choices=list(parts.STRIDES), help="measure one part alone")
    parser.add_argument("--instances", type=numbers, default=[20], help="things in a picture (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each (default: 5)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: as torch chooses)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", *DTYPES), help="of the weights (default: as they are served)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    if (args.source is None) == (args.part is None):
        parser.error("give an archive or a configuration, or --part without one")
    if args.part and args.precision == "float16":
        parser.error("--part measures in float32")
    if args.threads:
        torch.set_num_threads(args.threads)
    memory.keep()
    with torch.inference_mode():
        result = measure(args, choose_device(args.device))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)

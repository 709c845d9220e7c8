"""`python -m model.benchmark`: where the network's time and memory go, and how it compares.

    uv run python -m model.benchmark weights/camvid_demo.pt --size 360x480 --batch 1,2 --against plain
    uv run python -m model.benchmark coco_r50 --size 800x1333 --instances 20    # random weights, 20 made-up things
    uv run python -m model.benchmark --part panoptic_head --instances 20,100
    uv run python -m model.benchmark --part deformable --threads 1

Times are medians of rounds in which each candidate runs once. Two times are measured: the clock's, and the processor's
over all threads. Where other programs share the machine, use `--threads 1` and read `cpu_ratio`.

`--against plain` compares with the same weights in the convolutions of torch and torchvision, and with every panoptic
logit at full size; `agreement` is the share of pixels that get the same class. `--against peers` compares with other
networks. Ours has its weights in `--precision`, as it is served; the peers compute in it under torch's autocast, and
where openvino is installed one of them in OpenVINO too.
"""

import argparse
import copy
import json
import re
from pathlib import Path
from typing import Any

from model.begin import begin

if __name__ == "__main__":
    begin()

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from model import archive, memory
from model.benchmark import parts, peers
from model.benchmark.random_weights import random_network
from model.benchmark.timing import Run, Times, alternate, peak_bytes
from model.checkpoint import Checkpoint
from model.command import add_device, check_output_file, new_parser, path_name, positive, positives, run, threads, write
from model.interface.codec import MAX_SIDE
from model.interface.scale import padded_side
from model.network.backbone import fold_norms
from model.network.configurations import CONFIGURATIONS
from model.network.plain import plainly
from model.network.segments import unpack
from model.network.structures import Detections
from model.network.upsnet import UPSNet
from model.predictor import DTYPES, choose_device, choose_precision, compute_in_full


def sample_images(height: int, width: int, count: int, device: str) -> list[Tensor]:
    """`count` images (3, height, width) uint8; each is the same picture, shifted by another distance."""
    picture = archive.sample_picture(height, width)
    return [picture.roll(37 * i, dims=2).contiguous().to(device) for i in range(count)]


def open_network(source: str, size: tuple[int, int], instances: int, device: str) -> UPSNet:
    """An archive's network, or a configuration's with random weights. It works at `size`, so nothing is resized."""
    if source in CONFIGURATIONS:
        network = random_network(source, min(size), max(size), instances)
    else:
        checkpoint = Checkpoint.of_archive(Path(source))
        checkpoint.test_scale |= {"short_side": min(size), "long_side": max(size)}
        network = checkpoint.build()
    return network.to(device)


def stage_runs(network: UPSNet, images: list[Tensor]) -> dict[str, Run]:
    """Each stage of the network, by name, to run alone on what the stages before it give."""
    batch = network.transform(images, network.dtype())
    stages = network.backbone(batch.pixels)
    pyramid = network.pyramid(stages)
    proposals = network.rpn(pyramid, batch.limits)
    logits = network.semantic_head(pyramid)

    def detect() -> list[Detections]:
        predictions = network.predict_boxes(pyramid, proposals, batch.limits)
        return network.panoptic_detections(network.candidates_of(pyramid, predictions, logits))

    detections = detect()
    decision = network.panoptic_head(logits, detections)
    return {
        "transform": lambda: network.transform(images, network.dtype()),
        "backbone": lambda: network.backbone(batch.pixels),
        "pyramid": lambda: network.pyramid(stages),
        "rpn": lambda: network.rpn(pyramid, batch.limits),
        "instance_head": detect,
        "semantic_head": lambda: network.semantic_head(pyramid),
        "panoptic_head": lambda: network.panoptic_head(logits, detections),
        "segments": lambda: unpack(network.segments(decision, logits, detections, batch), batch.original_sizes),
    }


def measure_stages(network: UPSNet, images: list[Tensor], rounds: int, device: str) -> dict[str, dict[str, Any]]:
    """Seconds, share of all stages' seconds, and bytes of each stage."""
    runs = stage_runs(network, images)
    times = alternate(runs, rounds, device).seconds
    total = sum(times.values())
    return {
        name: {"seconds": taken, "share": taken / total, "bytes": peak_bytes(runs[name], device)}
        for name, taken in times.items()
    }


def measure_batches(served: Any, images: list[Tensor], counts: list[int], rounds: int, device: str) -> dict[str, Any]:
    """Images per second at each batch size."""
    result = {}
    for count in tqdm(counts, desc="batch sizes", unit="size", disable=None):
        served(images[:count])  # a second run that is not counted, as at warm-up
        times = alternate({"ours": lambda: served(images[:count])}, rounds, device)  # noqa: B023
        result[str(count)] = {"images_per_second": count / times.seconds["ours"]}
        say(f"batch {count}: {count / times.seconds['ours']:.3f} images/s")
    return result


def agreement(a: Any, b: Any) -> float:
    """Share of pixels that have the same class in two answers, or are void in both."""
    kinds = [F.pad(each.classes, [1, 0], value=-1)[each.segment_ids.long()] for each in (a, b)]
    return float((kinds[0] == kinds[1]).double().mean())


def compare_plain(network: UPSNet, served: Any, images: list[Tensor], rounds: int, device: str) -> dict[str, Any]:
    """Times of the served network and of the plain one, and how far they agree."""
    plain = plainly(network)
    agrees = min(agreement(a, b) for a, b in zip(served(images), plain(images), strict=True))
    times = alternate({"ours": lambda: served(images), "plain": lambda: plain(images)}, rounds, device)
    return {**times.ratios("plain"), "agreement": agrees, **rates(times, len(images))}


def compare_peers(
    served: Any, images: list[Tensor], others: dict[str, Run], rounds: int, device: str
) -> dict[str, Any]:
    """Times of the served network and of others."""
    times = alternate({"ours": lambda: served(images), **others}, rounds, device)
    return {**rates(times, len(images)), **{name: times.ratios(name) for name in others}}


def rates(times: Times, count: int) -> dict[str, Any]:
    """The times of runs on `count` images each, and their images per second."""
    return {**times._asdict(), "images_per_second": {name: count / taken for name, taken in times.seconds.items()}}


def measure_part(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Figures of one part of the network; each is printed when it is known."""
    compare, stride = parts.PARTS[args.part]
    height, width = (padded_side(side) for side in args.size)
    counts = args.instances if args.part == "panoptic_head" else [parts.CHANNELS]
    rows = []
    for count in counts:
        rows.append(compare(height // stride, width // stride, count, args.rounds, device))
        say(f"{args.part} {rows[-1]}")
    return {args.part: rows}


def measure_network(args: argparse.Namespace, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Figures of a whole network; each is printed when it is known."""
    count, (height, width) = max(args.batch), args.size
    others = peers.peer_runs(args.size, count, device, dtype) if "peers" in args.against else {}
    network = open_network(args.source, args.size, args.instances[0], device)
    folded = copy.deepcopy(network)
    fold_norms(folded)
    for each in (network, folded):
        archive.cast_weights(each, dtype)
    served = archive.script(folded)
    images = sample_images(height, width, count, device)
    result: dict[str, Any] = {"stages": measure_stages(folded, images[:1], args.rounds, device)}
    for name, row in result["stages"].items():
        memory = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:9.1f} MB"
        say(f"{name:14} {1000 * row['seconds']:9.1f} ms {100 * row['share']:5.1f} % {memory}")
    result["batches"] = measure_batches(served, images, args.batch, args.rounds, device)
    if "plain" in args.against:
        result["plain"] = compare_plain(network, served, images, args.rounds, device)
        say(f"plain: {result['plain']}")
    if others:
        result["peers"] = compare_peers(served, images, others, args.rounds, device)
        say(f"peers: {result['peers']}")
    return result


def measure(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """The figures, and what they were measured on."""
    height, width = args.size
    how = {"threads": torch.get_num_threads(), "device": device, "size": f"{height}x{width}"}
    if args.part:
        return {**how, "precision": "float32", **measure_part(args, device)}
    precision = choose_precision(args.precision, device)
    return {**how, "precision": precision, **measure_network(args, device, DTYPES[precision])}


def say(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line)


def height_by_width(text: str) -> tuple[int, int]:
    """`800x1333` as height and width, each from 32 to the largest side of an image, for an argument's `type`."""
    match = re.fullmatch("([0-9]{2,5})x([0-9]{2,5})", text)
    sides = [int(side) for side in match.groups()] if match else []
    if not sides or min(sides) < 32:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, each at least 32, such as 800x1333; got {text!r}")
    if max(sides) > MAX_SIDE:
        raise argparse.ArgumentTypeError(f"no image has a side over {MAX_SIDE}; got {text!r}")
    return sides[0], sides[1]


def plain_or_peers(text: str) -> list[str]:
    """`plain,peers` as a list of those two, for an argument's `type`."""
    names = text.split(",")
    if not set(names) <= {"plain", "peers"}:
        raise argparse.ArgumentTypeError(f"expected plain, peers, or plain,peers; got {text!r}")
    return names


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = new_parser(__doc__)
    parser.add_argument("source", nargs="?", help=f"archive, or {', '.join(CONFIGURATIONS)} with random weights")
    parser.add_argument("--size", type=height_by_width, default=(800, 1333), help="HEIGHTxWIDTH (default: 800x1333)")
    parser.add_argument("--batch", type=positives, default=[1], help="batch sizes, comma-separated (default: 1)")
    parser.add_argument("--against", type=plain_or_peers, default=[], help="plain, peers or both, at the largest batch")
    parser.add_argument("--part", choices=list(parts.PARTS), help="measure one part alone")
    parser.add_argument("--instances", type=positives, default=[20], help="things in an image (default: 20)")
    parser.add_argument("--rounds", type=positive, default=5, help="runs of each candidate that count (default: 5)")
    parser.add_argument("--threads", type=threads, help="CPU threads (default: the cores that this process may use)")
    add_device(parser)
    parser.add_argument("--json", type=path_name, help="file to write the figures to")
    args = parser.parse_args(argv)
    if bool(args.source) == bool(args.part):
        parser.error("give an archive or a configuration, or --part without one")
    if args.part and args.precision not in ("auto", "float32"):
        parser.error("--part measures in float32")
    if args.json:
        check_output_file(args.json, *([Path(args.source)] if args.source else []))
    if args.threads:
        torch.set_num_threads(args.threads)
    memory.keep_freed_memory()
    compute_in_full()  # as a served network does
    with torch.inference_mode():
        result = measure(args, choose_device(args.device))
    if args.json:
        write(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run(main)

"""`python -m model.export`: a checkpoint becomes the archive that the service reads.

    uv run python -m model.export coco_r50.safetensors --out weights/coco_r50.pt --short-side 800 --long-side 1333

The network is scripted whole. Nothing is written unless it answers a test picture as the eager network does.
"""

import sys

from model.begin import begin

if __name__ == "__main__":
    begin()

import torch

from model import archive
from model.checkpoint import Checkpoint, CheckpointError, thresholds_of
from model.command import check_output_file, new_parser, not_negative, path_name, positive, run, share
from model.interface.metadata import Metadata
from model.network.backbone import fold_norms
from model.network.upsnet import UPSNet


def check_equal(network: UPSNet, scripted: archive.Scripted) -> None:
    """Compare both networks' answers, segment by segment.

    Raises:
        CheckpointError: they differ.
    """
    images = [archive.sample_picture()]
    with torch.inference_mode():
        eager, served = network(images)[0], scripted(images)[0]
    for name in eager._fields:
        if not torch.equal(getattr(eager, name), getattr(served, name)):
            raise CheckpointError(f"Eager and scripted network differ in {name}; nothing was written. This is a bug.")


def export(checkpoint: Checkpoint, source_sha256: str, name: str, half: bool) -> tuple[archive.Scripted, Metadata]:
    """Script a checkpoint's network and describe it.

    Args:
        checkpoint: weights, configuration, and the facts that go into the metadata.
        source_sha256: digest of the checkpoint's file.
        name: the model's name, as clients will see it.
        half: store the weights in half precision, in a file of half the size. It is served in any precision.

    Returns:
        The scripted network and its metadata.

    Raises:
        CheckpointError: the weights do not fit, or eager and scripted network differ.
    """
    network = checkpoint.build()
    fold_norms(network)
    if half:
        archive.cast_weights(network, torch.float16)
        archive.cast_weights(network, torch.float32)  # compare what will be served
    scripted = archive.script(network)
    check_equal(network, scripted)
    if half:
        archive.cast_weights(scripted, torch.float16)
    metadata = Metadata(
        name=name,
        configuration=checkpoint.configuration,
        categories=checkpoint.categories,
        thresholds=thresholds_of(network),
        test_scale={"short_side": network.transform.short_side, "long_side": network.transform.long_side},
        dataset=checkpoint.dataset,
        scores=checkpoint.scores,
        licence=checkpoint.licence,
        source_sha256=source_sha256,
        instances=network.candidates.limit,
        software={"python": sys.version.split()[0], **archive.software()},
    )
    return scripted, metadata


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "checkpoint", type=path_name, help="our checkpoint, .safetensors (a published one: model.convert)"
    )
    parser.add_argument("--out", required=True, type=path_name, help="archive to write")
    parser.add_argument("--name", help="the model's name, as clients see it (default: the name of the archive's file)")
    parser.add_argument("--short-side", type=positive, help="test scale: length of the short side, pixels")
    parser.add_argument("--long-side", type=positive, help="test scale: largest length of the long side, pixels")
    parser.add_argument("--score", type=share, help="smallest score of an instance in the panoptic answer")
    parser.add_argument("--stuff-area", type=not_negative, help="smallest area of a stuff segment, pixels of the photo")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    args = parser.parse_args(argv)
    if args.out.suffix == ".safetensors":
        parser.error(f"--out {args.out}: an archive is a .pt file")
    check_output_file(args.out, args.checkpoint)
    checkpoint = Checkpoint.load(args.checkpoint)
    scale = {"short_side": args.short_side, "long_side": args.long_side}
    checkpoint.test_scale |= {side: value for side, value in scale.items() if value}
    chosen = {"panoptic_score": args.score, "stuff_area": args.stuff_area}
    checkpoint.thresholds |= {name: value for name, value in chosen.items() if value is not None}
    name = args.name or args.out.stem.replace("_", "-")
    scripted, metadata = export(checkpoint, archive.sha256(args.checkpoint), name, args.half)
    archive.save(scripted, metadata, args.out)
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.1f} MB, sha256 {archive.sha256(args.out)[:12]}; eager and scripted agree")  # noqa: T201


if __name__ == "__main__":
    run(main)

"""`python -m tests.model.kernels.compiled regions 80 120`: compiles the kernels of a module as they are launched.

Needs no device. Prints a JSON line for each kernel and compute capability (8.0 and 9.0 by default): registers of a
thread, bytes that it spills, bytes of shared memory.
"""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from model.kernels import deformable, levels, masks, panoptic, regions, segments, stuff_scores, transform

TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
POINTERS = {
    "table moves weight bias out matrix p2 p3 p4 p5 fine coarse": "*fp16",
    "boxes masks scales logits bounds rois mean std candidate_scores": "*fp32",
    "windows areas firsts taken starts words levels sizes counters": "*i32",
    "order candidate_classes": "*i64",
    "facts sums tables": "*fp64",
    "shown keep": "*i8",
    "segments semantic image channel_map semantic_map kinds ids packed": "*u8",
}
TYPES = {name: kind for names, kind in POINTERS.items() for name in names.split()} | {
    "threshold": "fp32",
    "inverse_bits": "i64",
    "overlap_bits": "i64",
}
COUNTS = {"PIXELS": masks.PIXELS, "BLOCKS": masks.BLOCKS, "SIDE": masks.SIDE}
ALIGNED = ("channels", "outputs", "padded_height", "padded_width")
TILE = {"ROWS": segments.ROWS, "COLUMNS": segments.COLUMNS}
LITTLE_MEMORY = (86, 89, 120)  # 100 KiB of shared memory in a multiprocessor
EXACT = {"enable_fp_fusion": False}
DECIDE = {"ROWS": panoptic.ROWS, "COLUMNS": panoptic.COLUMNS, "LANES": panoptic.LANES, "SIDE": masks.SIDE}
DECIDE |= {"CLASSES": 256}
BOUND = {
    "CLASSES": panoptic.CLASSES,
    "TILES": panoptic.TILES,
    "CELLS_Y": panoptic.ROWS // 4,
    "CELLS_X": panoptic.COLUMNS // 4,
}
SUM = {**EXACT, "types": {"out": "*fp32", "kinds": "i32"}}


def deformable_with(outputs: int, size: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The deformable convolution with so many outputs, in float16 (a size of 2 bytes) or float32."""
    tile = deformable.tile(outputs, 2**20)
    constants = {"PIXELS": tile.pixels, "CHANNELS": tile.bytes // size, "OUTPUTS": tile.outputs}
    constants |= {"RELU": True, "CHUNKS": 256 // (tile.bytes // size), "EVEN": True, "WIDE": False, "HALF": size == 2}
    types = dict.fromkeys(("table", "moves", "weight", "bias", "out"), f"*fp{8 * size}")
    return deformable._forward, constants, {"num_warps": tile.warps, "num_stages": tile.stages, "types": types}


KERNELS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    *(deformable_with(outputs, size) for size in (2, 4) for outputs in (128, 256)),
    (levels._sum_levels, {"ROWS": levels.ROWS, "COLUMNS": levels.COLUMNS}, SUM),
    (levels._add_enlarged, {"PIXELS": levels.PIXELS, "CHANNELS": 256}, {}),
    (masks._place, {"LANES": masks.LANES, "SIDE": masks.SIDE}, {"num_warps": 1, "types": {"classes": "*i64"}}),
    (masks._count_own, COUNTS, EXACT),
    (masks._count_taken, {**COUNTS, "LANES": masks.LANES}, EXACT),
    (panoptic._order, {"COUNT": 128}, {"types": {"channels": "*i32", "shown": "*i32"}}),
    (panoptic._bound, BOUND, {}),
    (panoptic._decide, DECIDE, {**EXACT, "types": {"channels": "*i32", "shown": "*i32"}}),
    (regions._overlaps, {"ROWS": 64}, EXACT),
    (regions._suppress, {"WORDS": 32}, {**EXACT, "num_warps": 1}),
    (regions._roi_align, {"BINS": 16, "CHANNELS": 128}, {}),
    (transform._resize, {"ROWS": transform.ROWS, "NUMBERS": transform.NUMBERS}, EXACT),
    (segments._count, TILE, {"num_warps": 1}),
    (segments._merge, {"CLASSES": segments.CLASSES}, {"num_warps": 8}),
    (segments._write, TILE, {}),
    (segments._tabulate, {}, {}),
    (stuff_scores._add_softmax, {"CELLS": stuff_scores.CELLS, "CLASSES": stuff_scores.CLASSES}, {}),
]


def usage(cubin: bytes) -> dict[str, int]:
    """What the assembler used."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([TOOL, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", told.stdout))
    return {"registers": int(found["REG"]), "spilled": int(found["STACK"]) + int(found["LOCAL"])}


def main(module: str, *capabilities: str) -> None:
    """Compile and tell."""
    kernels = [entry for entry in KERNELS if entry[0].__module__ == f"model.kernels.{module}"]
    for capability, (kernel, constants, options) in itertools.product(map(int, capabilities or ("80", "90")), kernels):
        places = {name: i for i, name in enumerate(kernel.arg_names)}
        types = TYPES | options.get("types", {})
        signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in places}
        aligned = [i for name, i in places.items() if signature[name].startswith("*") or name in ALIGNED]
        source = ASTSource(
            kernel,
            signature,
            {(places[name],): value for name, value in constants.items()},
            {(i,): [["tt.divisibility", 16]] for i in aligned},
        )
        chosen = {name: option for name, option in options.items() if name != "types"}
        if kernel is deformable._forward and capability in LITTLE_MEMORY:
            chosen["num_stages"] = deformable.tile(1, 100 * 1024).stages
        built = triton.compile(source, GPUTarget("cuda", capability, 32), {"enable_fp_fusion": True, **chosen})
        facts = {"kernel": kernel.__name__, "capability": capability, "warps": options.get("num_warps", 4)}
        facts |= {**usage(built.asm["cubin"]), "shared": built.metadata.shared}
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

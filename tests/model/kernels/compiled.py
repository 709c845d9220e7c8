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

from model.kernels import deformable, masks, panoptic, regions, segments, transform

TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
POINTERS = {
    "table matrix out p2 p3 p4 p5": "*fp16",
    "moves bias boxes masks scales logits rois mean std candidate_scores": "*fp32",
    "windows areas places allowed taken starts words levels sizes counters": "*i32",
    "order candidate_classes": "*i64",
    "facts sums tables": "*fp64",
    "shown keep": "*i8",
    "segments semantic image channel_map semantic_map kinds ids packed": "*u8",
}
TYPES = {name: kind for names, kind in POINTERS.items() for name in names.split()} | {
    "threshold": "fp32",
    "inverse_bits": "i64",
}
COUNTS = {"PIXELS": masks.PIXELS, "BLOCKS": masks.BLOCKS, "SIDE": masks.SIDE}
HALF = {"PIXELS": deformable.PIXELS, "CHANNELS": deformable.BYTES // 2, "PRECISION": "ieee"}
FULL = {**HALF, "CHANNELS": deformable.BYTES // 4}
ALIGNED = ("channels", "outputs", "padded_height", "padded_width")
TILE = {"ROWS": segments.ROWS, "COLUMNS": segments.COLUMNS}
EXACT = {"enable_fp_fusion": False}
KERNELS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (deformable._forward, {**HALF, "OUTPUTS": 128}, {"num_warps": 4, "num_stages": 2}),
    (deformable._forward, {**HALF, "OUTPUTS": 256}, {"num_warps": 8, "num_stages": 2}),
    (deformable._forward, {**FULL, "OUTPUTS": 128}, {"num_warps": 4, "num_stages": 2}),
    (deformable._forward, {**FULL, "OUTPUTS": 256}, {"num_warps": 8, "num_stages": 2}),
    (masks._count_own, COUNTS, EXACT),
    (masks._count_taken, COUNTS, EXACT),
    (panoptic._decide, {"ROWS": panoptic.ROWS, "COLUMNS": panoptic.COLUMNS, "SIDE": masks.SIDE}, EXACT),
    (regions._overlaps, {"ROWS": 64}, EXACT),
    (regions._suppress, {"WORDS": 32}, {**EXACT, "num_warps": 1}),
    (regions._roi_align, {"BINS": 16, "CHANNELS": 128}, {}),
    (transform._resize, {"ROWS": transform.ROWS, "NUMBERS": transform.NUMBERS}, EXACT),
    (segments._count, TILE, {"num_warps": 1}),
    (segments._merge, {"CLASSES": segments.CLASSES}, {"num_warps": 8}),
    (segments._write, TILE, {}),
    (segments._add_softmax, {"CELLS": segments.CELLS, "CLASSES": segments.CLASSES}, {}),
    (segments._tabulate, {}, {}),
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
        signature = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in places}
        if constants.get("CHANNELS") == FULL["CHANNELS"]:
            signature = {name: "*fp32" if kind == "*fp16" else kind for name, kind in signature.items()}
        aligned = [i for name, i in places.items() if signature[name].startswith("*") or name in ALIGNED]
        source = ASTSource(
            kernel,
            signature,
            {(places[name],): value for name, value in constants.items()},
            {(i,): [["tt.divisibility", 16]] for i in aligned},
        )
        built = triton.compile(source, GPUTarget("cuda", capability, 32), {"enable_fp_fusion": True, **options})
        facts = {"kernel": kernel.__name__, "capability": capability, "warps": options.get("num_warps", 4)}
        facts |= {**usage(built.asm["cubin"]), "shared": built.metadata.shared}
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The operators that a scripted network calls, and those of torch 2.11 and torchvision 0.26 that it may call."""

from pathlib import Path
from typing import Any

OLDEST = {"torch": "2.11.0", "torchvision": "0.26.0"}
RECORDED = Path(__file__).with_name("operators_of_torch_2_11.txt")


def called(scripted: Any) -> set[str]:
    """The schemas of all operators in any branch of any method; of syntax, which has no schema, the kind."""
    found: set[str] = set()
    for module in scripted.modules():
        for name in module._c._method_names():
            collect(module._c._get_method(name).inlined_graph, found)
    return found


def collect(block: Any, found: set[str]) -> None:
    for node in block.nodes():
        found.add(node.kind() if node.schema() == "(no schema)" else node.schema())
        for inner in node.blocks():
            collect(inner, found)


def recorded() -> set[str]:
    """What torch 2.11 has of what the networks call; every later torch has it too."""
    return set(RECORDED.read_text(encoding="utf-8").splitlines())

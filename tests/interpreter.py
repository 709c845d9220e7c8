"""Triton's interpreter, which runs the kernels where there is no GPU, with every Triton and numpy that is supported."""

import importlib.metadata
import importlib.util
from typing import Any


def mend() -> None:
    """Triton before 3.9 takes a loop's bound by `int` of an array of one number, which newer numpys refuse."""
    if not importlib.util.find_spec("triton"):
        return
    version = importlib.metadata.version("triton").split(".")
    if (int(version[0]), int(version[1])) >= (3, 9):
        return
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_and_read(tensor: type, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_and_read

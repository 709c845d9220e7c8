"""Which form of each operator a GPU runs in this process: its kernel, or the plain one.

Kernels are in use until they are switched off, or until one is replaced because it failed (`model.kernels.self_check`).
"""

import functools
import importlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch

_replaced: dict[str, str] = {}  # of this process, as the registered operators are
_switched_off = False


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed and finds the C compiler that it needs; warns once where one is missing."""
    missing = why_no_triton()
    if missing:
        warnings.warn(f"{missing}: a GPU takes the slower forms of its operators.", RuntimeWarning, stacklevel=2)
    return not missing


def why_no_triton() -> str:
    """What Triton lacks, without a full stop; empty if nothing."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "There is no C compiler for Triton (install gcc or clang, or name one in CC)"
    return ""


def usable(name: str, needs_triton: bool = True) -> bool:
    """Whether the kernel of an operator is to be run."""
    return not _switched_off and name not in _replaced and (not needs_triton or has_triton())


def replace(name: str, reason: str) -> None:
    """Run the plain form of an operator from here on; the reason is one line."""
    _replaced[name] = reason


def replaced() -> dict[str, str]:
    """The operators whose kernels are replaced, and why."""
    return dict(_replaced)


def switch_off() -> None:
    """Run the plain form of every operator from here on; Triton is not even imported."""
    global _switched_off
    _switched_off = True


def switched_off() -> bool:
    """Whether `switch_off` was called."""
    return _switched_off


class GpuForm:
    """What a GPU runs for an operator: its kernel while that is usable, else its plain form.

    Args:
        name: the operator's.
        plain: the form that torch and torchvision have.
        kernel: a function of a module of `model.kernels` that needs Triton, such as `regions.nms`, imported at its
            first call; or a function that does not need it.
        backward: whether gradients are asked for; only the plain form has them.
    """

    def __init__(
        self, name: str, plain: Callable[..., Any], kernel: str | Callable[..., Any], backward: bool = False
    ) -> None:
        self.name, self.plain, self.backward = name, plain, backward
        self._kernel = kernel

    @functools.cached_property
    def kernel(self) -> Callable[..., Any]:
        """The kernel's function; importing its module may fail in any way."""
        if not isinstance(self._kernel, str):
            return self._kernel
        module, function = self._kernel.split(".")
        found: Callable[..., Any] = getattr(importlib.import_module(f"model.kernels.{module}"), function)
        return found

    @property
    def usable(self) -> bool:
        """Whether the kernel is to be run."""
        return usable(self.name, needs_triton=isinstance(self._kernel, str))

    def __call__(self, *arguments: Any) -> Any:
        """The operator's result; arguments as in its schema, the first a tensor or a list of them."""
        if (self.backward and torch.is_grad_enabled()) or not self.usable:
            return self.plain(*arguments)
        return self.run_kernel(*arguments)

    def run_kernel(self, *arguments: Any) -> Any:
        """The kernel's result, usable or not."""
        first = arguments[0][0] if isinstance(arguments[0], list) else arguments[0]
        with torch.cuda.device_of(first):  # Triton launches on the current device
            return self.kernel(*arguments)

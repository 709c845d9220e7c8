"""Kernels prove themselves on the device that they will run on, before anything else does.

Each runs on small random inputs beside the plain form. What differs, fails to compile or raises is replaced by the
plain form for this process. Shapes are chosen so that most of what is compiled here is what the network runs.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model.interface.failures import is_shortage, one_line
from model.kernels import choice
from model.kernels.choice import GpuForm

log = logging.getLogger(__name__)

FINEST = 2.0**-14
"""No type is held to less: sums in another order round otherwise. TensorFloat-32 rounds to 2^-10."""
ROUNDINGS = 2.0
"""Numbers may differ by so many roundings of their type, relative to their norm."""
UNEQUAL = 0.002
"""This part of a result in integers may differ: rounding decides some of them."""
BOXES = 997
"""Of a group; a published network suppresses among 1000."""

WIDTHS = ((64, 128), (256, 256), (256, 128), (128, 128), (96, 96))
"""Channels before and after a deformable convolution: those of the networks, each of which is compiled apart."""

Cases = Iterator[tuple[Any, ...]]


def check(forms: Mapping[str, GpuForm], device: str | torch.device, dtype: torch.dtype) -> None:
    """Run every kernel that is in use, and replace those that fail, with one warning that names them all.

    Args:
        forms: what a GPU runs, by the name of the operator.
        device: the device to prove them on.
        dtype: type of the network's weights.

    Raises:
        RuntimeError: memory is short, so nothing can be said of a kernel, or the device is lost.
    """
    if choice.switched_off():
        return
    failed = {}
    with torch.inference_mode():
        for name, form in forms.items():
            if name in choice.replaced():
                continue
            if not form.usable:
                choice.replace(name, choice.why_no_triton())  # a warning has said so
            elif reason := _failure(form, CHECKS[name](torch.Generator().manual_seed(0), dtype), torch.device(device)):
                choice.replace(name, reason)
                failed[name] = reason
    if failed:
        names = "; ".join(f"{name} ({reason})" for name, reason in failed.items())
        log.warning("Kernels that failed on %s are replaced by slower forms: %s", device, names)


def wait(device: torch.device) -> None:
    """Return when a device has done all that it was given.

    Raises:
        RuntimeError: something failed on the device; if it does so again, the device is lost.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _failure(form: GpuForm, cases: Cases, device: torch.device) -> str:
    """Why a kernel is not to be used, in one line; empty if it is right, or if there is nothing to compare it with."""
    read = READERS.get(form.name, lambda result: result)
    for case in cases:
        arguments = [_to(argument, device) for argument in case]
        try:
            wanted = read(form.plain(*arguments))
            wait(device)
        except Exception as error:
            _raise_if_lost(error, device)
            log.warning("The kernel of %s cannot be checked on %s: %s", form.name, device, one_line(error))
            return ""
        try:
            with Poisoned():
                found = read(form.run_kernel(*arguments))
            wait(device)
        except Exception as error:
            _raise_if_lost(error, device)
            return f"it raised {one_line(error)}"[:200]
        if reason := difference(found, wanted):
            return reason
    return ""


def _raise_if_lost(error: Exception, device: torch.device) -> None:
    """Let through what is no fault of a kernel; a lost device fails whatever it is asked."""
    if is_shortage(error):
        raise error
    wait(device)


def _to(argument: Any, device: torch.device) -> Any:
    if isinstance(argument, list):
        return [_to(each, device) for each in argument]
    return argument.to(device) if isinstance(argument, Tensor) else argument


class Poisoned(TorchFunctionMode):
    """New tensors without values get NaN, or a strange number: what a kernel does not write shows."""

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The result of a function of torch, filled if it is new memory."""
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("empty", "empty_like", "empty_strided", "new_empty"):
            result.fill_(float("nan") if result.is_floating_point() else 113)
        return result


def difference(found: Any, wanted: Any) -> str:
    """Why a result is not the wanted one, in one line; empty if it is. Either is a tensor or a tuple of them."""
    if isinstance(wanted, (tuple, list)):
        if len(found) != len(wanted):
            return f"it returned {len(found)} results, not {len(wanted)}"
        return next(filter(None, map(difference, found, wanted)), "")
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return f"it returned {tuple(found.shape)} {found.dtype}, not {tuple(wanted.shape)} {wanted.dtype}"
    if wanted.is_floating_point():
        allowed = ROUNDINGS * max(torch.finfo(wanted.dtype).eps, FINEST)
        error = float((found.double() - wanted.double()).norm() / wanted.double().norm())
        return "" if error <= allowed else f"its numbers differ by {error:.2g} of their norm, {allowed:.2g} is allowed"
    share = float((found != wanted).double().mean())
    return "" if share <= UNEQUAL else f"{share:.1%} of its numbers differ, {UNEQUAL:.1%} is allowed"


def _features(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    """Random features (N, C, H, W), channels-last."""
    return torch.randn(*shape, generator=generator).to(dtype).to(memory_format=torch.channels_last)


def _convolution(generator: torch.Generator, dtype: torch.dtype) -> Cases:
    features, other = (_features(generator, dtype, 2, 64, 11, 13) for _ in range(2))
    large, small = (_features(generator, dtype, 64, 64, size, size) / (8 * size) for size in (3, 1))
    bias = torch.randn(64, generator=generator).to(dtype)
    yield features, large, bias, None, True, 1
    yield features, large, bias, other, True, 1
    yield features, large, bias, None, True, 2
    yield features, small, bias, other, False, 1
    yield features, small, None, None, False, 2


def _deformable_convolution(generator: torch.Generator, dtype: torch.dtype) -> Cases:
    for channels, outputs in WIDTHS:
        features = _features(generator, dtype, 2, channels, 3, 11)
        offsets = 3 * _features(generator, dtype, 2, 18, 3, 11)  # some beyond the border
        weight = _features(generator, dtype, outputs, channels, 3, 3) / (9 * channels) ** 0.5
        bias = torch.randn(outputs, generator=generator).to(dtype)
        yield features, offsets, weight, bias, True
    yield features, offsets, weight, bias, False


def _add_enlarged(generator: torch.Generator, dtype: torch.dtype) -> Cases:
    yield _features(generator, dtype, 2, 256, 6, 10), _features(generator, dtype, 2, 256, 3, 5)


def _sum_levels(generator: torch.Generator, dtype: torch.dtype) -> Cases:
    levels = [torch.randn(2, 5, 16 // 2**k, 24 // 2**k, generator=generator).to(dtype) for k in range(4)]
    yield levels, torch.randn(5, generator=generator).to(dtype)


def _boxes(generator: torch.Generator, *shape: int) -> Tensor:
    """(..., 4) float32 xyxy within 64 rows and 96 columns, some thinner than a pixel."""
    a, b = (torch.rand(*shape, 2, generator=generator) * torch.tensor([95.0, 63.0]) for _ in range(2))
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=-1)


def _roi_align(generator: torch.Generator, dtype: torch.dtype) -> Cases:
    levels = [_features(generator, dtype, 2, 256, 64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    images = torch.tensor([0, 1, 0, 1, 0, 1, 0])[:, None]
    rois = torch.cat([images, _boxes(generator, 7)], dim=1)
    rois[1, 1:] = torch.tensor([-9.0, -20, 130, 80])
    yield levels, rois, torch.tensor([0, 1, 2, 3, 0, 1, 2]), 7


def _nms(generator: torch.Generator, _: torch.dtype) -> Cases:
    yield _boxes(generator, 2, BOXES), 0.5


def _panoptic(generator: torch.Generator, _: torch.dtype) -> Cases:
    yield _decision(generator, (16, 24), [3, 5], 5, 3)
    yield _decision(generator, (2, 8), [40], 53, 80)  # as many classes as COCO has, and more candidates than lanes


def _decision(
    generator: torch.Generator, size: tuple[int, int], counts: list[int], stuff: int, things: int
) -> tuple[Any, ...]:
    """Semantic logits of a size, and candidates of which the second is covered by the first."""
    logits = 2 * torch.randn(len(counts), stuff + things, *size, generator=generator) - 0.5
    masks = 3 * torch.randn(sum(counts), 1, 4, 4, generator=generator) + 1
    masks = torch.nn.functional.interpolate(masks, (28, 28), mode="bilinear")[:, 0]
    classes = torch.randint(1, things + 1, (sum(counts),), generator=generator)
    boxes = _boxes(generator, sum(counts)) * min(size) / 16
    boxes[1], masks[1], classes[1] = boxes[0], masks[0], classes[0]
    return logits, boxes, masks, classes, counts, max(counts), stuff, 0.3


def _transform(generator: torch.Generator, dtype: torch.dtype) -> Cases:
    sides, scales = ((37, 53), (104, 150)), [1.7, 0.6]
    images = [torch.randint(256, (*side, 3), generator=generator, dtype=torch.uint8) for side in sides]
    mean, std = torch.tensor([122.0, 116.0, 103.0]), torch.tensor([1.0, 57.0, 58.0])
    numbers = mean[:, None, None], std[:, None, None], scales, [63, 90, 62, 90], 64, 96, dtype
    yield [image.permute(2, 0, 1) for image in images], *numbers


def _segments(generator: torch.Generator, _: torch.dtype) -> Cases:
    grid, counts, stuff, things = (8, 12), [3, 5], 5, 3
    channels, semantic = (torch.randint(stuff + k, (2, *grid), generator=generator) for k in (min(counts), things))
    channels[:, 0, :3] = 255
    maps = [each.byte().repeat_interleave(8, 1).repeat_interleave(8, 2) for each in (channels, semantic)]
    logits = 3 * torch.randn(2, stuff + things, 16, 24, generator=generator)
    classes = torch.randint(1, things + 1, (sum(counts),), generator=generator)
    scores, order = torch.rand(sum(counts), generator=generator), torch.tensor([0, 2, 1, 3, 1, 0, 4, 2])
    sizes, originals = [63, 90, 62, 96], [37, 53, 104, 161]
    yield *maps, logits, classes, scores, order, counts, sizes, [1.7, 0.6], originals, stuff, 40


def _read_segments(packed: Tensor) -> list[Tensor]:
    """Numbers, scores and maps of the two images of the check: the bytes of nearly equal scores may all differ."""
    end = 2 * 256 * 7 * 8
    tables = packed[:end].clone().view(torch.float64).view(2, 256, 7)[:, :12]
    return [tables[..., [0, 2, 3, 4, 5, 6]].nan_to_num(-1).long(), tables[..., 1], packed[end:]]


CHECKS: dict[str, Callable[[torch.Generator, torch.dtype], Cases]] = {
    "convolution": _convolution,
    "deformable_convolution": _deformable_convolution,
    "add_enlarged": _add_enlarged,
    "sum_levels": _sum_levels,
    "roi_align": _roi_align,
    "nms": _nms,
    "panoptic": _panoptic,
    "transform": _transform,
    "segments": _segments,
}
"""By the name of an operator, arguments to run it with: random ones of the generator, features of the type."""
READERS: dict[str, Callable[[Any], Any]] = {"segments": _read_segments}
"""By the name of an operator, what makes its result comparable, where that is not so as it is."""

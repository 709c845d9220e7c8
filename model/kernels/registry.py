"""The operators: their schemas, and the forms of each that the dispatcher chooses from.

A CPU has forms of this package's own, a GPU has Triton's and cuDNN's. On a GPU without Triton, in place of a kernel
that failed, and with gradients, those of `model.kernels.plain` stand in. `model.ops` says what each operator does.
Archives hold calls to these schemas: a change needs a new format version.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.kernels import convolution_cpu, convolution_cudnn, cpu, panoptic_cpu, plain, segments_cpu, transform_cpu
from model.kernels.choice import GpuForm
from model.kernels.fake import FAKES

ON_GPU: dict[str, GpuForm] = {}
"""By the name of an operator, what a GPU runs."""
_LIBRARY = torch.library.Library("upsnet", "DEF")
_LIBRARY.define(
    "convolution(Tensor features, Tensor weight, Tensor? bias, Tensor? other, bool relu, int stride) -> Tensor"
)
_LIBRARY.define(
    "deformable_convolution(Tensor features, Tensor offsets, Tensor weight, Tensor? bias, bool relu) -> Tensor"
)
_LIBRARY.define("deform_conv2d(Tensor features, Tensor offsets, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.define("has_kernels(Tensor device) -> bool")
_LIBRARY.define(
    "panoptic(Tensor logits, Tensor boxes, Tensor masks, Tensor classes, int[] counts, int alike, int stuff, "
    "float overlap) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define("nms(Tensor boxes, float threshold) -> Tensor")
_LIBRARY.define("add_enlarged(Tensor fine, Tensor coarse) -> Tensor")
_LIBRARY.define("sum_levels(Tensor[] levels, Tensor bias) -> Tensor")
_LIBRARY.define("numbers(float[] numbers, Tensor like) -> Tensor")
_LIBRARY.define("to_host(Tensor(a) numbers) -> Tensor(a)")
_LIBRARY.define("reinterpret(Tensor numbers, ScalarType dtype) -> Tensor")
_LIBRARY.define("roi_align(Tensor[] features, Tensor rois, Tensor levels, int size) -> Tensor")
_LIBRARY.define(
    "transform(Tensor[] images, Tensor mean, Tensor std, float[] scales, int[] sizes, int height, int width, "
    "ScalarType dtype) -> Tensor"
)
_LIBRARY.define(
    "segments(Tensor channels, Tensor semantic, Tensor logits, Tensor classes, Tensor scores, Tensor order, "
    "int[] counts, int[] sizes, float[] scales, int[] originals, int stuff, int stuff_area_limit) -> Tensor"
)


def _roi_align_cpu(features: list[Tensor], rois: Tensor, levels: Tensor, size: int) -> Tensor:
    form = plain.roi_align_torchvision if torch.is_grad_enabled() else cpu.roi_align
    return form(features, rois, levels, size)


def _deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.upsnet.deformable_convolution(features, offsets, weight, bias, False)  # type: ignore[no-any-return]


def _numbers_cuda(numbers: list[float], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, pin_memory=True).to(like.device, non_blocking=True)


def _to_host_cuda(numbers: Tensor) -> Tensor:
    found = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    found.copy_(numbers, non_blocking=True)
    torch.cuda.current_stream(numbers.device).synchronize()
    return found


def _register(
    name: str,
    on_cpu: Callable[..., Any],
    plain: Callable[..., Any],
    kernel: str | Callable[..., Any],
    backward: bool = False,
) -> None:
    """Name the forms of an operator: on a CPU, plain on a GPU, and the GPU's kernel, as `GpuForm` takes it.

    One with a backward is called above autograd too, which records what it does.
    """
    ON_GPU[name] = GpuForm(name, plain, kernel, backward)
    for key, form in (("CPU", on_cpu), ("CUDA", ON_GPU[name])):
        _LIBRARY.impl(name, form, key)
        if backward:
            _LIBRARY.impl(name, _above_autograd(name, form), f"Autograd{key}")


def _above_autograd(name: str, form: Callable[..., Any]) -> Callable[..., Any]:
    """With gradients the form; without, the operator again, below autograd: there it has a fake form."""
    operator = getattr(torch.ops.upsnet, name).default

    def run(*arguments: Any) -> Any:
        if torch.is_grad_enabled():
            return form(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments)

    return run


_register(
    "convolution", convolution_cpu.convolution, plain.convolution_torch, convolution_cudnn.convolution, backward=True
)
_register(
    "deformable_convolution",
    cpu.deform_conv2d,
    plain.deform_conv2d_torchvision,
    "deformable.deform_conv2d",
    backward=True,
)
_register("add_enlarged", plain.add_enlarged_torch, plain.add_enlarged_torch, "levels.add_enlarged", backward=True)
_register("sum_levels", plain.sum_levels_torch, plain.sum_levels_torch, "levels.sum_levels", backward=True)
_register("roi_align", _roi_align_cpu, plain.roi_align_torchvision, "regions.roi_align", backward=True)
_register("nms", cpu.nms, cpu.nms, "regions.nms")
_register("panoptic", panoptic_cpu.panoptic, panoptic_cpu.panoptic, "panoptic.panoptic")
_register("transform", transform_cpu.transform, transform_cpu.transform, "transform.transform")
_register("segments", segments_cpu.segments, segments_cpu.segments, "segments.segments")
_LIBRARY.impl("numbers", lambda numbers, _: torch.tensor(numbers, dtype=torch.float32), "CPU")
_LIBRARY.impl("numbers", _numbers_cuda, "CUDA")
_LIBRARY.impl("to_host", lambda numbers: numbers.detach(), "CPU")  # an operator may not return its input itself
_LIBRARY.impl("to_host", _to_host_cuda, "CUDA")
for _name in ("numbers", "to_host"):
    _LIBRARY.impl(_name, torch.library.fallthrough_kernel, "Autograd")  # no gradient passes them
_LIBRARY.impl("reinterpret", lambda bits, dtype: bits.contiguous().clone().view(dtype), "CompositeExplicitAutograd")
_LIBRARY.impl("deform_conv2d", _deform_conv2d, "CompositeImplicitAutograd")  # archives up to version 0.2 call it
_LIBRARY.impl("has_kernels", lambda _: False, "CPU")  # archives of version 0.1 ask
_LIBRARY.impl("has_kernels", lambda _: ON_GPU["panoptic"].usable, "CUDA")
for _name, _fake in FAKES.items():
    torch.library.register_fake(f"upsnet::{_name}", _fake, lib=_LIBRARY)

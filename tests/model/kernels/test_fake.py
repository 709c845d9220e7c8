"""Fake forms beside the forms for a CPU, by `torch.library.opcheck`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model import ops
from model.kernels.self_check import CHECKS

OTHERS: dict[str, tuple[Any, ...]] = {
    "deform_conv2d": (torch.ones(1, 3, 5, 6), torch.ones(1, 18, 5, 6), torch.ones(4, 3, 3, 3), torch.ones(4)),
    "has_kernels": (torch.zeros(1),),
    "numbers": ([1.5, -2.0], torch.zeros(1)),
    "reinterpret": (torch.tensor([1.5, -2.0]), torch.int32),
    "to_host": (torch.tensor([1.5, -2.0]),),
}
"""Arguments of the operators that have no kernel, so nothing to check on a device."""
TYPED = ("convolution", "deformable_convolution", "add_enlarged", "sum_levels", "roi_align", "transform")
"""They take features, or give pixels, of the network's type; the others have types of their own."""
BACKWARD = [name for name, form in ops.ON_GPU.items() if form.backward]
WITHOUT_GRADIENTS = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
WITH_GRADIENTS = ("test_schema", "test_autograd_registration", "test_aot_dispatch_dynamic")
"""The last of them compares fake forms too. Above autograd the steps of a form are faked, not its operator."""


def names(library: str) -> list[str]:
    """Of all operators of a library."""
    names = (name.partition(".")[0].split("::") for name in torch._C._dispatch_get_all_op_names())
    return sorted({name for space, name in names if space == library})


def without_fake(library: str) -> list[str]:
    """The operators of a library that cannot run on tensors without values."""
    keys = ("Meta", "CompositeExplicitAutograd", "CompositeImplicitAutograd")
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return [name for name in names(library) if not any(has(f"{library}::{name}", key) for key in keys)]


def given(name: str, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Any, ...]]:
    """Arguments of an operator, several times; a new operator has none."""
    return CHECKS[name](torch.Generator().manual_seed(0), dtype) if name in CHECKS else iter([OTHERS[name]])


def each(change: Callable[[Tensor], Tensor], argument: Any) -> Any:
    """Arguments, their tensors changed, lists of tensors too."""
    if isinstance(argument, (tuple, list)):
        return type(argument)(each(change, item) for item in argument)
    return change(argument) if isinstance(argument, Tensor) else argument


def check(name: str, arguments: tuple[Any, ...], tests: tuple[str, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.upsnet, name).default, arguments, test_utils=tests)


def test_every_operator_has_a_fake_form() -> None:
    assert len(names("upsnet")) > 10
    assert without_fake("upsnet") == []


def test_an_operator_without_a_fake_form_is_found() -> None:
    library = torch.library.Library("upsnet_tested", "DEF")
    library.define("lone(Tensor a) -> Tensor")
    library.impl("lone", lambda a: a + 1, "CPU")
    library.impl("lone", torch.library.fallthrough_kernel, "Autograd")
    assert without_fake("upsnet_tested") == ["lone"]
    torch.library.register_fake("upsnet_tested::lone", torch.empty_like, lib=library)
    assert without_fake("upsnet_tested") == []


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float32) for name in names("upsnet")] + [(name, torch.bfloat16) for name in TYPED],
)
def test_a_fake_form_gives_what_a_cpu_gives(name: str, dtype: torch.dtype) -> None:
    """Without gradients; `to_host` returns a view, which torch follows through no operator but its own."""
    tests = WITHOUT_GRADIENTS[:2] if name == "to_host" else WITHOUT_GRADIENTS
    for arguments in given(name, dtype):
        check(name, arguments, tests)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's check reads it
@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_are_followed_where_there_are_any(name: str) -> None:
    """Through maps and weights: all that has four dimensions."""
    arguments = next(given(name))
    check(name, each(lambda tensor: tensor.requires_grad_(tensor.dim() == 4), arguments), WITH_GRADIENTS)


@torch.no_grad()
@pytest.mark.parametrize("name", BACKWARD)
def test_a_fake_form_follows_the_strides_of_what_it_is_given(name: str) -> None:
    for arguments in given(name):
        check(name, each(Tensor.contiguous, arguments), ("test_faketensor",))


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_large_convolution_is_faked_as_winograds(layout: torch.memory_format) -> None:
    features = torch.randn(1, 256, 46, 46).contiguous(memory_format=layout)
    arguments = features, torch.randn(8, 256, 3, 3), None, None, True, 1
    assert torch.ops.upsnet.convolution(*arguments).is_contiguous(memory_format=torch.channels_last)
    check("convolution", arguments, ("test_faketensor",))


class Maps(nn.Module):
    """Every operator on maps, from features of which each has twice the sides of the next."""

    def forward(self, levels: list[Tensor], rois: Tensor) -> tuple[Tensor, ...]:
        weight = torch.ones(16, 8, 3, 3)
        convolved = ops.convolution(levels[0], weight, None, None, True, 2)
        sampled = ops.deform_conv2d(levels[0], levels[0].repeat(1, 3, 1, 1)[:, :18], weight, None)
        enlarged = ops.add_enlarged(levels[0], levels[1])
        pooled = ops.roi_align(levels, rois, torch.zeros(rois.size(0), dtype=torch.int64), 7)
        return convolved, sampled, enlarged, ops.sum_levels(levels, torch.ones(8)), pooled


@torch.no_grad()
def test_sizes_that_are_free_stay_so() -> None:
    def case(height: int, width: int, count: int) -> tuple[list[Tensor], Tensor]:
        levels = [torch.randn(1, 8, height >> k, width >> k) for k in range(4)]
        each_roi = torch.tensor([0.0, 1, 2, 20, 30]).expand(count, -1)
        return [level.contiguous(memory_format=torch.channels_last) for level in levels], each_roi.contiguous()

    height, width, count = (torch.export.Dim(name, min=2, max=99) for name in ("height", "width", "count"))
    sides = [{2: scale * height, 3: scale * width} for scale in (8, 4, 2, 1)]
    exported = torch.export.export(Maps(), case(24, 32, 3), dynamic_shapes=(sides, {0: count})).module()
    for size in ((16, 56, 2), (320, 64, 9)):
        arguments = case(*size)
        for found, wanted in zip(exported(*arguments), Maps()(*arguments), strict=True):
            torch.testing.assert_close(found, wanted)

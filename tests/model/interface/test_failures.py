"""One line of each kind of error that torch raises."""

import pytest

from model.interface.failures import is_shortage, is_unwritten, one_line

LOST = """CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."""
SCRIPTED = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript, serialized code (most recent call last):
  File "code/__torch__/upsnet.py", line 9, in forward
RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"""
UNKNOWN = """
Unknown builtin op: aten::_upsample_lanczos2d_aa.
Here are some suggestions:
    lateral5 = self.lateral5"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError(LOST), "RuntimeError: CUDA error: an illegal memory access was encountered"),
        (RuntimeError(SCRIPTED), "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        (RuntimeError(UNKNOWN), "RuntimeError: Unknown builtin op: aten::_upsample_lanczos2d_aa."),
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_line_that_says_what_happened_is_told(error: Exception, line: str) -> None:
    assert one_line(error) == line


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(SCRIPTED),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory: not enough memory"),
    ],
)
def test_shortages_of_memory_are_known(error: Exception) -> None:
    assert is_shortage(error)
    assert not is_shortage(RuntimeError(LOST))


def test_what_a_full_disk_makes_libraries_say_is_known() -> None:
    assert is_unwritten(RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 128 vs 64"))
    assert is_unwritten(Exception("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert not is_unwritten(RuntimeError("shape '[2]' is invalid for input of size 3"))

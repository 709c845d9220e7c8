"""What an error says, in one line, and whether it says that memory is short."""

import re

_SHORTAGES = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")
_UNWRITTEN = ("no space left on device", "file too large", "disk quota", "unexpected pos", "pytorchstreamwriter")
_RAISED = re.compile(r"\w*(Error|Exception)\b[^:]*: ")


def one_line(error: BaseException) -> str:
    """The type of an error and the line of its message that says what happened.

    That is the first one, but for an error that TorchScript passes on: it quotes the network's code first.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "TorchScript" not in lines[0]:
        return f"{type(error).__name__}: {lines[0]}"
    raised = [line for line in lines if _RAISED.match(line)]
    return raised[-1] if raised else f"{type(error).__name__}: {lines[-1]}"


def is_shortage(error: BaseException) -> bool:
    """Whether memory was short, of the host or of a device: only the message tells, whatever library raised it."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SHORTAGES)


def is_unwritten(error: BaseException) -> bool:
    """Whether a library could not write a file, such as torch and safetensors, whose errors have no class for it."""
    return any(sign in str(error).lower() for sign in _UNWRITTEN)

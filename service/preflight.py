"""Whether this host and this archive allow what is set, before anything listens or is loaded.

Only what can never work is refused. What cannot be known here, such as the memory of a GPU, the worker finds out.
"""

import errno
import os
import queue
import socket
import threading
from typing import Any

from model.interface import archive_file, host
from model.interface.codec import MAX_SIDE
from service import gpus
from service.settings import Settings, SettingsError, refusal, shown

NAME_SECONDS = 1.5
"""A name that takes longer to look up is none of this host's own."""
PASSED_BYTES = 4
"""Of each pixel, in the memory that front and worker share: its colour and its place in the map."""
RUN_BYTES = 24
"""Of each pixel of an image, in a worker on a CPU; with the demo archive, 27 to 32 were measured for 4 to 64 Mpx."""


def check(settings: Settings) -> None:
    """Return if the service can start here with these settings.

    Raises:
        SettingsError: it cannot; the message names the setting.
    """
    check_address(settings.host, settings.port)
    check_archive(settings)
    check_devices(settings)
    check_memory(settings)


def check_archive(settings: Settings) -> None:
    """Return if the archive can be served, and images of the sizes to warm up with would be taken.

    Raises:
        SettingsError: not so.
    """
    try:
        archive_file.check(settings.model)
    except archive_file.ArchiveError as error:
        raise refusal(f"UPSNET_MODEL: {error}") from error
    for height, width in settings.warmup_sizes:
        if max(height, width) > MAX_SIDE:
            raise refusal(f"UPSNET_WARMUP_SIZES: {width}x{height} has a side over {MAX_SIDE}, which no image may have.")
        if height * width > settings.max_pixels:
            raise refusal(
                f"UPSNET_WARMUP_SIZES: {width}x{height} has {height * width} pixels, and UPSNET_MAX_PIXELS is "
                f"{settings.max_pixels}: such images are refused. Lower the one or raise the other."
            )


def check_address(host: str, port: int) -> None:
    """Return if this process may listen there now.

    Raises:
        SettingsError: the host is unknown or another's, or the port is taken or not for this user.
    """
    for family, kind, protocol, _, address in _look_up(host, port):
        try:
            probe = socket.socket(family, kind, protocol)
        except OSError:  # a family that this host lacks is left out when the service listens, too
            continue
        with probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not kept from a port just left
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise refusal(_why_not(host, port, error)) from error


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"UPSNET_PORT={port}: the port is in use on {host}. Set UPSNET_PORT to a free port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"UPSNET_PORT={port}: this user may not listen on it ({error.strerror}). Set one above 1023."
    return (
        f"UPSNET_HOST={shown(host)}: cannot listen there ({error.strerror}). Name an address of this host, or 0.0.0.0."
    )


def _look_up(host: str, port: int) -> list[Any]:
    """The addresses of a host, as `socket.getaddrinfo` gives them.

    Raises:
        SettingsError: there are none, or nobody says so in time.
    """
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()  # nothing else can end a look-up
    try:
        answer = answers.get(timeout=NAME_SECONDS)
    except queue.Empty:
        answer = TimeoutError(f"no answer in {NAME_SECONDS} s")
    if isinstance(answer, Exception):
        why = getattr(answer, "strerror", None) or answer
        raise refusal(
            f"UPSNET_HOST={shown(host)}: no such host ({why}). Name an address of this host, such as 127.0.0.1, or "
            "0.0.0.0 for all of them."
        ) from answer
    return answer


def check_devices(settings: Settings) -> None:
    """Return if each device is there, as far as can be known, and computes in the precision that is set.

    Raises:
        SettingsError: not so.
    """
    needs_gpu = settings.device.startswith("cuda") or settings.precision == "float16"
    found = gpus.look() if needs_gpu else gpus.UNKNOWN
    if found.count is None:
        return
    if settings.device == "auto" and not found.count:
        raise refusal(f"UPSNET_PRECISION='float16' needs a GPU, and {found.reason}. Use bfloat16, float32 or auto.")
    for name in settings.device.split(","):
        if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= found.count:
            raise refusal(
                f"UPSNET_DEVICE={shown(settings.device)}: there is no {name}: {found.reason}. Name a device that is "
                "there, or auto."
            )


def check_memory(settings: Settings) -> None:
    """Return if the largest image, and the sizes to warm up with on a CPU, fit into the memory.

    Raises:
        SettingsError: not so.
    """
    memory, workers = host.memory(), len(settings.device.split(","))
    _check_room(f"UPSNET_MAX_PIXELS={settings.max_pixels}", PASSED_BYTES * settings.max_pixels, memory)
    for height, width in settings.warmup_sizes:
        needed = RUN_BYTES * height * width * workers  # all of them warm up at once
        if needed > memory and _runs_on_cpu(settings.device):
            size = f"{width}x{height}" + (f" in {workers} workers" if workers > 1 else "")
            _check_room(f"UPSNET_WARMUP_SIZES: {size}", needed, memory)


def _runs_on_cpu(device: str) -> bool:
    return device.startswith("cpu") or (device == "auto" and gpus.look().count == 0)


def _check_room(name: str, needed: int, memory: int) -> None:
    if needed > memory:
        raise refusal(
            f"{name}: such an image takes {needed / 1e9:.1f} GB, and the memory is {memory / 1e9:.1f} GB. Lower it."
        )


def why_not_listening(settings: Settings) -> str:
    """What to say when the server could not listen, though the check has passed."""
    try:
        check_address(settings.host, settings.port)
    except SettingsError as error:
        return str(error)
    return f"cannot listen on {settings.host}:{settings.port}; the log says why."

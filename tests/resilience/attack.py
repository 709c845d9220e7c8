"""What hostile clients do, each bounded in count and time, and what it costs the service and those beside them."""

import contextlib
import io
import os
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from model.interface.codec import encode_png
from tests.resilience.client import percentile, request
from tests.service.emulated import image
from tests.service.hostile import jpeg_exif, jpeg_scans, png, png_exif, saved
from tests.service.tiffs import tiff_of_numbers

SIDE = 6240
LIVE = request(b"", "/health/live", "GET")
SMALL = encode_png(image(height=480, width=640))


def interlaced_png(side: int) -> bytes:
    """Sixteen bits of grey and alpha in seven passes: much to undo for few bytes."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    packer = zlib.compressobj(9)
    packed = b""
    for left, top, right, down in passes:
        row = bytes(1 + 4 * ((side - left + right - 1) // right))
        packed += packer.compress(row * ((side - top + down - 1) // down))
    header = struct.pack(">IIBBBBB", side, side, 16, 4, 0, 0, 1)
    return png((b"IHDR", header), (b"IDAT", packed + packer.flush()))


def animated_webp(side: int) -> bytes:
    frames = [Image.new("RGB", (side, side), (number, 2, 3)) for number in (1, 9)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0)
    return file.getvalue()


def plain(side: int, mode: str, form: str, **options: object) -> bytes:
    return saved(Image.new(mode, (side, side)), form, **options)


LARGE: dict[str, Callable[[], bytes]] = {
    "WebP, 40 bytes": lambda: plain(SIDE, "RGB", "WEBP", lossless=True, method=0),
    "WebP, lossy": lambda: plain(SIDE, "RGB", "WEBP", quality=0, method=0),
    "WebP, animated": lambda: animated_webp(SIDE),
    "PNG, 1 bit": lambda: plain(SIDE, "1", "PNG"),
    "PNG, interlaced": lambda: interlaced_png(SIDE),
    "JPEG": lambda: plain(SIDE, "RGB", "JPEG"),
    "JPEG, 92 scans": lambda: jpeg_scans(SIDE, SIDE, 92),
    "GIF": lambda: plain(SIDE, "P", "GIF"),
    "TIFF, LZMA": lambda: plain(SIDE, "RGB", "TIFF", compression="lzma"),
    "TIFF, fax": lambda: plain(SIDE, "1", "TIFF", compression="group4"),
    "BMP": lambda: plain(SIDE, "1", "BMP"),
}
"""39 megapixels in a file that is small for them."""
HEADERS: dict[str, Callable[[], bytes]] = {
    "JPEG, 65 000 pieces of Exif": lambda: jpeg_exif(65_000),
    "TIFF, 4 million strips": lambda: tiff_of_numbers(b"II\0*", 273, 4, 4_500_000),
    "TIFF, 2 million fractions": lambda: tiff_of_numbers(b"II*\0", 282, 5, 2_400_000),
    "PNG, Exif of 350 000 fractions": lambda: png_exif(tiff_of_numbers(b"II*\0", 274, 5, 350_000)),
}
"""Small pictures in files that are nearly all header."""


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def post(port: int, body: bytes, path: str = "/panoptic") -> tuple[int, float, str | None]:
    """Status, seconds, and when to come again."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=60) as answer:
            answer.read()
            return answer.status, time.monotonic() - began, None
    except urllib.error.HTTPError as error:
        error.read()
        return error.code, time.monotonic() - began, error.headers["Retry-After"]


@dataclass
class Seen:
    """Of an attack: answers to the attackers, memory of the front, and how long others waited."""

    statuses: Counter[int] = field(default_factory=Counter)
    hurried: int = 0
    before_mb: float = 0.0
    peak_mb: float = 0.0
    waits: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        waits = f"{1000 * percentile(self.waits, 0.5):.0f} / {1000 * max(self.waits):.0f} ms"
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return f"| {name} | {answers} | {self.before_mb:.0f} -> {self.peak_mb:.0f} MB | {waits} |"


@contextlib.contextmanager
def watched(pid: int, beside: Callable[[], object], pause: float = 0.05) -> Iterator[Seen]:
    """The front's memory, and one client beside the attack that does something again and again."""
    seen = Seen(before_mb=resident_mb(pid))
    over = threading.Event()

    def memory() -> None:
        while not over.wait(0.02):
            seen.peak_mb = max(seen.peak_mb, resident_mb(pid))

    def client() -> None:
        while not over.wait(pause):
            began = time.monotonic()
            beside()
            seen.waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=memory), threading.Thread(target=client)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def each(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def many_pixels(port: int, pid: int, content: bytes, clients: int, seconds: float, query: str = "") -> Seen:
    """Clients that post a very large image again and again, and one with an ordinary one beside them."""
    small: list[tuple[int, float, str | None]] = []
    with watched(pid, lambda: small.append(post(port, SMALL))) as seen:
        end = time.monotonic() + seconds

        def client(_: int) -> None:
            while time.monotonic() < end:
                status, _, again = post(port, content, f"/panoptic{query}")
                seen.statuses[status] += 1
                seen.hurried += status == 429 and not int(again or 0)
                if status == 429:
                    time.sleep(0.2)

        each(clients, client)
    seen.waits = [took for status, took, _ in small if status == 200]
    assert {status for status, _, _ in small} <= {200, 429}
    return seen


def live(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=60) as answer:
        answer.read()


def send_for_ever(port: int, pid: int, head: bytes, piece: bytes, seconds: float) -> tuple[Seen, int]:
    """One connection whose request does not end; how much of it was taken."""
    sent = 0
    with watched(pid, lambda: live(port)) as seen, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        end = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            client.sendall(head)
            while time.monotonic() < end:
                client.sendall(piece)
                sent += len(piece)
        time.sleep(0.2)
    return seen, sent


def pipelined(port: int, pid: int, connections: int, requests: int, seconds: float, first: bytes = b"") -> Seen:
    """Connections that each send thousands of requests at once, and read no answer before."""
    with watched(pid, lambda: live(port)) as seen, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1)) for _ in range(connections)
        ]
        end = time.monotonic() + seconds

        def client(number: int) -> None:
            with contextlib.suppress(OSError):
                clients[number].sendall(first + requests * LIVE)
            with contextlib.suppress(OSError):
                while time.monotonic() < end and clients[number].recv(1 << 20):
                    pass

        each(connections, client)
    return seen


def uploads(port: int, pid: int, connections: int, size: int, seconds: float) -> Seen:
    """Connections that each send all but the last byte of a large body."""
    with watched(pid, lambda: live(port)) as seen:
        head = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        end = time.monotonic() + seconds

        def client(_: int) -> None:
            left = size - 1
            with socket.create_connection(("127.0.0.1", port), timeout=1) as one:
                with contextlib.suppress(OSError):
                    one.sendall(head)
                    while left and time.monotonic() < end:
                        left -= one.send(bytes(min(left, 1 << 18)))
                one.settimeout(max(0.1, end - time.monotonic()))
                with contextlib.suppress(OSError):
                    if answer := one.recv(100):
                        seen.statuses[int(answer.split()[1])] += 1

        each(connections, client)
    return seen


def tiny_chunks(port: int, pid: int, connections: int, seconds: float) -> Seen:
    """Connections whose bodies come in chunks of one byte, one body after another."""
    head = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with watched(pid, lambda: live(port)) as seen:
        end = time.monotonic() + seconds

        def client(_: int) -> None:
            while time.monotonic() < end:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as one, contextlib.suppress(OSError):
                    one.sendall(head + 40_000 * b"1\r\na\r\n")
                    seen.statuses[int(one.recv(100).split()[1])] += 1

        each(connections, client)
    return seen


def empty_lines(port: int, pid: int, connections: int, seconds: float) -> Seen:
    """Connections that send nothing but ends of lines."""
    with watched(pid, lambda: live(port)) as seen:
        end = time.monotonic() + seconds

        def client(_: int) -> None:
            while time.monotonic() < end:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as one, contextlib.suppress(OSError):
                    one.sendall(2_000_000 * b"\r\n")

        each(connections, client)
    return seen


def sockets(pid: int) -> int:
    """That a process has open."""
    links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    return sum(link.startswith("socket:") for link in links)


def deaf_clients(port: int, path: bytes) -> list[socket.socket]:
    """Clients that ask for more and more and read nothing, so that some bytes stay on this side of the system."""
    clients = []
    for requests in range(1, 400, 6):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(requests):
                client.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        clients.append(client)
    return clients


def exchange(port: int, *parts: bytes, half_close: bool = False, patience: float = 2.0) -> bytes:
    """What comes back on one connection for these segments, to its end or until nothing more comes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for number, part in enumerate(parts):
                if number:
                    time.sleep(0.05)
                client.sendall(part)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while piece := client.recv(65_536):
                got += piece
    return got

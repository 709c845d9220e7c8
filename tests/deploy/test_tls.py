"""The nginx configuration of docs/security.md, as it stands there, before a replica."""

import asyncio
import contextlib
import http.client
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.interface.codec import encode_png
from tests.deploy.host import REPOSITORY, install, run
from tests.deploy.plain import Replica, front_root
from tests.service.emulated import GOOD, image

pytestmark = pytest.mark.deploy

PROXY, REAL_ADDRESSES = re.findall(r"```nginx\n(.*?)```", (REPOSITORY / "docs/security.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def root(workplace: Path) -> Path:
    """A root folder with nginx, the page's configuration and a certificate for localhost."""
    install(openssl="openssl")
    root = front_root(workplace)
    (root / "etc/nginx/tls").mkdir(exist_ok=True)
    (root / "etc/nginx/upsnet.conf").write_text(PROXY)
    (root / "etc/nginx/proxy.conf").write_text("pid /tmp/proxy.pid; events {} http { include /etc/nginx/upsnet.conf; }")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", root / "etc/nginx/tls/privkey.pem", "-out", root / "etc/nginx/tls/fullchain.pem"]
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names, *files])
    return root


@contextlib.contextmanager
def proxy(root: Path) -> Iterator[ssl.SSLContext]:
    """nginx on ports 80 and 443, and what a client needs to trust it."""
    process = subprocess.Popen(["chroot", str(root), "nginx", "-c", "/etc/nginx/proxy.conf", "-g", "daemon off;"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("localhost", 80), timeout=2).close()
                break
            assert process.poll() is None
            time.sleep(0.1)
        yield ssl.create_default_context(cafile=root / "etc/nginx/tls/fullchain.pem")
    finally:
        process.terminate()
        process.wait(10)


def test_nginx_accepts_both_pieces(root: Path) -> None:
    run(["chroot", root, "nginx", "-t", "-c", "/etc/nginx/proxy.conf"])
    front = (REPOSITORY / "docker/nginx.conf").read_text()
    (root / "etc/nginx/behind.conf").write_text(front.replace("http {\n", f"http {{\n{REAL_ADDRESSES}", 1))
    run(["chroot", root, "nginx", "-t", "-c", "/etc/nginx/behind.conf"])


def test_a_photo_goes_through_tls_and_plain_http_is_sent_there(root: Path) -> None:
    replica = Replica("127.0.0.1")
    try:
        asyncio.run(replica.ready())
        with proxy(root) as trust:
            secure = http.client.HTTPSConnection("localhost", 443, timeout=30, context=trust)
            secure.request("POST", "/panoptic", encode_png(image(GOOD)), {"Accept": "image/png"})
            answer = secure.getresponse()
            assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            answer.read()
            secure.request("GET", "/metrics")
            assert secure.getresponse().status == 404
            secure.close()
            plain = http.client.HTTPConnection("localhost", 80, timeout=5)
            plain.request("GET", "/docs?a=b")
            moved = plain.getresponse()
            assert (moved.status, moved.headers["Location"]) == (301, "https://localhost/docs?a=b")
            plain.close()
    finally:
        replica.process.terminate()
        replica.process.wait(40)

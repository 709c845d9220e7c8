"""A Docker engine of the suite's own, the base images that it builds on, and Compose against it."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deploy.host import REPOSITORY, install, root_file_system, run

CPU_TORCH = "https://download.pytorch.org/whl/cpu"
PROJECT = "upsnet-test"
PORT = "8123"
REVISION = "of-this-test"


class Docker:
    """The client of one engine."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "engine.sock"
        self.composer = folder / "compose/docker-compose"
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "0",  # the builder that comes with the engine
            "UPSNET_VARIANT": "cpu",
            "UPSNET_PUBLISH": PORT,
            "UPSNET_MAX_QUEUE": "48",  # to see that settings arrive
        }

    def __call__(self, *words: str | Path, **options: Any) -> str:
        return run(["docker", *words], env=self.environment, **options).strip()

    def compose(self, files: list[str | Path], *words: str) -> str:
        """`docker compose` on files of the repository."""
        named = [word for file in files for word in ("-f", str(REPOSITORY / file))]
        fixed = [self.composer, "-p", PROJECT, "--project-directory", REPOSITORY]
        return run([*fixed, *named, *words], env=self.environment).strip()

    def state(self, container: str) -> dict[str, Any]:
        return dict(json.loads(self("inspect", container))[0])

    def python(self, container: str, code: str, *arguments: str) -> str:
        """What a program prints inside a running container."""
        return self("exec", container, "python", "-c", code, *arguments)

    def wait(self, container: str, status: str, seconds: float = 180) -> None:
        """Until the health of a container is so."""
        end = time.monotonic() + seconds
        while (found := self.state(container)["State"].get("Health", {}).get("Status")) != status:
            assert time.monotonic() < end, f"{container} is {found}\n{self('logs', '--tail', '30', container)}"
            time.sleep(0.5)


@contextlib.contextmanager
def engine(workplace: Path) -> Iterator[Docker]:
    """Debian's engine with a data folder of its own, until the end of the suite."""
    install(dockerd="docker.io", iptables="iptables")
    install(docker="docker-cli")
    docker = Docker(workplace)
    compose_2(docker.composer)
    words = ["--data-root", workplace / "data", "--exec-root", workplace / "exec", "-H", f"unix://{docker.socket}"]
    with (workplace / "engine.log").open("w") as log:
        process = subprocess.Popen(
            ["dockerd", *map(str, words), "--pidfile", str(workplace / "engine.pid")], stdout=log, stderr=log
        )
    try:
        for _ in range(120):
            if process.poll() is None and docker.socket.exists():
                with contextlib.suppress(AssertionError):
                    docker("version")
                    break
            time.sleep(0.5)
        else:
            raise RuntimeError(f"dockerd does not answer:\n{(workplace / 'engine.log').read_text()[-3000:]}")
        yield docker
    finally:
        process.terminate()
        process.wait(60)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):  # what it leaves behind, for a clean end
            if line.split()[1].startswith(f"{workplace}/"):
                run(["umount", line.split()[1]])


def compose_2(program: Path) -> None:
    """The plugin of Docker that newer Debians have; it needs nothing of them but an older C library."""
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        tree = root_file_system(program.parent / "compose.tar", "forky", "docker-compose", variant="extract")
        run(["tar", "-xf", tree, "-C", program.parent, "--strip-components=5", "./usr/libexec/docker/cli-plugins"])


PYTHON = re.findall(r"^ARG PYTHON=(\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)[0]


def python_image(docker: Docker, workplace: Path) -> None:
    """Debian's Python under the name that the Dockerfile starts from, with the certificates of this host."""
    if docker("images", "--quiet", PYTHON):
        return
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    tree = root_file_system(workplace / "image.tar", "bookworm", packages)
    docker("import", tree, "debian-python")
    context = workplace / "python"
    context.mkdir(exist_ok=True)
    shutil.copy(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), context / "ca.crt")
    (context / "Dockerfile").write_text(
        "FROM debian-python\n"
        "COPY ca.crt /etc/ssl/certs/ca-certificates.crt\n"
        "RUN ln -s /usr/bin/python3 /usr/local/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED\n"
        "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt\n"
    )
    docker("build", "--tag", PYTHON, context)


def front_images(docker: Docker, workplace: Path) -> None:
    """Debian's nginx and Prometheus under the names that the compose files give."""
    composed = "".join((REPOSITORY / f"docker-compose.{name}.yml").read_text() for name in ("scale", "monitoring"))
    tree = root_file_system(workplace / "front.tar", "forky", "nginx,prometheus")
    for kind, changes in {"nginx": [], "prom/prometheus": ['ENTRYPOINT ["prometheus"]', "WORKDIR /"]}.items():
        name = re.findall(rf"image: ({kind}:\S+)", composed)[0]
        if not docker("images", "--quiet", name):
            words = [word for change in changes for word in ("--change", change)]
            docker("import", *words, tree, name)


def torch_index() -> str:
    """The index of CPU builds where this host reaches it, else none: then torch is the default index's, with CUDA."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo(CPU_TORCH.split("/")[2], 443)
        return CPU_TORCH
    return ""


def cpu_image(docker: Docker, workplace: Path) -> str:
    """Builds the CPU variant; its name."""
    python_image(docker, workplace)
    name, began, index = "upsnet-service:cpu", time.monotonic(), torch_index()
    arguments = [
        word for each in (f"TORCH_INDEX={index}", "COMPILER=", f"REVISION={REVISION}") for word in ("--build-arg", each)
    ]
    docker("build", "--network", "host", *arguments, "--tag", name, REPOSITORY, timeout=3000)
    size = int(docker("inspect", "--format", "{{.Size}}", name))
    print(f"\nimage: {size / 1e9:.2f} GB in {time.monotonic() - began:.0f} s, torch of {index or 'the default index'}")
    print(docker("history", "--format", "{{.Size}}\t{{.CreatedBy}}", name))
    return name

"""The CPU variant, built and run as the compose files say."""

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import leaks
from tests.deploy.engine import PYTHON, REVISION, Docker
from tests.deploy.host import REPOSITORY, run

pytestmark = pytest.mark.deploy

VARIANTS = {
    "gpu": ["docker-compose.yml"],
    "cpu": ["docker-compose.cpu.yml"],
    "scale": ["docker-compose.scale.yml"],
    "monitoring": ["docker-compose.yml", "docker-compose.monitoring.yml"],
    "cpu and monitoring": ["docker-compose.cpu.yml", "docker-compose.monitoring.yml"],
    "scale and monitoring": ["docker-compose.scale.yml", "docker-compose.monitoring.yml"],
}
PHOTO = "/app/service/static/examples/china.jpg"
ASK = """
import io, json, sys, time, urllib.request
from PIL import Image
photo = Image.open(sys.argv[1])
if len(sys.argv) > 2:
    photo = photo.resize((int(sys.argv[2]), int(sys.argv[3])))
body = io.BytesIO()
photo.save(body, "JPEG", quality=90)
began = time.monotonic()
answer = urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/panoptic", body.getvalue()), timeout=60)
facts = json.load(answer)
print(json.dumps({**facts["image"], "segments": len(facts["segments_info"]), "void": facts["void_area"],
                  "area": sum(s["area"] for s in facts["segments_info"]), "seconds": time.monotonic() - began}))
"""
MOST_MEMORY = """
import pathlib
groups = pathlib.Path("/sys/fs/cgroup")
for name in ("memory.peak", "memory/memory.max_usage_in_bytes"):
    if (groups / name).exists():
        print((groups / name).read_text())
        break
"""


@pytest.fixture(scope="module")
def container(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The CPU variant up and healthy, without any network."""
    offline = tmp_path_factory.mktemp("compose") / "offline.yml"
    offline.write_text(f"services:\n  upsnet: {{image: {image}, network_mode: none}}\n")
    files: list[str | Path] = ["docker-compose.cpu.yml", offline]
    try:
        docker.compose(files, "up", "-d", "--no-build")
        identity = docker.compose(files, "ps", "-q", "upsnet")
        docker.wait(identity, "healthy")
        ready(docker, identity)
        yield identity
    finally:
        docker.compose(files, "down", "--timeout", "5")


def ready(docker: Docker, container: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/health/ready', timeout=5).status)"
    while True:
        with contextlib.suppress(AssertionError):
            assert docker.python(container, code) == "200"
            return
        assert time.monotonic() < end, docker("logs", "--tail", "30", container)
        time.sleep(0.5)


def main_process(docker: Docker, container: str) -> int:
    """Its number on the host: the child of the init process."""
    first = docker.state(container)["State"]["Pid"]
    return int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0])


def test_compose_accepts_every_variant(docker: Docker) -> None:
    for files in VARIANTS.values():
        assert "upsnet" in docker.compose(list(files), "config", "--services").split()


def test_the_schema_accepts_every_file() -> None:
    files = [*sorted(REPOSITORY.glob("docker-compose*.yml")), REPOSITORY / "docker/services.yml"]
    tool = ["uv", "tool", "run", "--from", "check-jsonschema==0.37.4", "check-jsonschema"]
    assert "ok" in run([*tool, "--builtin-schema", "vendor.compose-spec", *files])


def test_it_can_change_nothing_but_its_scratch_space(docker: Docker, container: str) -> None:
    facts = docker.state(container)
    assert facts["HostConfig"]["NetworkMode"] == "none"
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert facts["HostConfig"]["Memory"] == 8 << 30
    assert docker("exec", container, "id", "-u") == "10001"
    status = docker("exec", container, "cat", "/proc/self/status")
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    docker("exec", container, "touch", "/tmp/a")
    for place in ("/app/a", "/app/weights/a", "/venv/a", "/etc/a"):
        with pytest.raises(AssertionError, match="Read-only file system"):
            docker("exec", container, "touch", place)


def test_a_setting_of_the_shell_arrives(docker: Docker, container: str) -> None:
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/model', timeout=5).read().decode())"
    limits = json.loads(docker.python(container, code))["limits"]
    assert limits["max_queue"] == 48
    assert limits["max_upload_bytes"] == (8 << 30) // 32  # of the container's memory, not of the host's
    assert docker("exec", container, "sh", "-c", "echo $UPSNET_LOG_FORMAT ${UPSNET_DEVICE-unset}") == "json unset"


def test_a_photo_is_answered_without_a_network(docker: Docker, container: str) -> None:
    found = json.loads(docker.python(container, ASK, PHOTO))
    print(f"\nwithout a network: {found}")
    assert (found["width"], found["height"]) == (640, 427)
    assert found["segments"] > 3
    assert found["area"] + found["void"] == 640 * 427


def test_ten_megapixels_are_answered_within_the_limits(docker: Docker, container: str) -> None:
    found = json.loads(docker.python(container, ASK, PHOTO, "3872", "2592"))
    most = int(docker.python(container, MOST_MEMORY))
    print(f"\n10 Mpx: {found}, container's memory at most {most / 1e9:.2f} of 8.59 GB")
    assert found["area"] + found["void"] == 3872 * 2592
    assert not docker.state(container)["State"]["OOMKilled"]
    assert docker.state(container)["RestartCount"] == 0


def test_a_killed_service_is_started_again(docker: Docker, container: str) -> None:
    old = main_process(docker, container)
    os.kill(old, signal.SIGKILL)
    began = time.monotonic()
    while docker.state(container)["RestartCount"] != 1 or docker.state(container)["State"]["Status"] != "running":
        assert time.monotonic() < began + 30
        time.sleep(0.2)
    ready(docker, container)
    print(f"\nkill -9 of the main process: ready again after {time.monotonic() - began:.1f} s")
    assert main_process(docker, container) != old
    assert json.loads(docker.python(container, ASK, PHOTO))["segments"] > 3


def test_sigterm_ends_it_with_status_0_and_for_good(docker: Docker, container: str) -> None:
    began = time.monotonic()
    docker("stop", "--time", "30", container)
    state = docker.state(container)["State"]
    print(f"\nSIGTERM: exit {state['ExitCode']} after {time.monotonic() - began:.1f} s")
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    docker("start", container)
    docker.wait(container, "healthy")


def test_the_image_holds_what_serving_needs_and_no_more(docker: Docker, image: str) -> None:
    absent = (
        "pip",
        "uv",
        "pytest",
        "tensorboard",
        "pycocotools",
        "model.training",
        "model.network",
        "service.benchmark",
    )
    code = (
        f"import importlib.util as i, os; print([n for n in {absent} if i.find_spec(n)],"
        " sorted(os.listdir('/app')), sorted(os.listdir('weights')))"
    )
    listed = docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", code)
    assert listed == "[] ['model', 'service', 'weights'] ['README.md', 'camvid_demo.pt', 'manifest.json']"


def test_the_image_says_what_it_is(docker: Docker, image: str) -> None:
    config = docker.state(image)["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == "upsnet-service"
    assert labels["licenses"] == "Apache-2.0 AND CC-BY-NC-4.0"  # the demo archive's with the code's
    assert labels["revision"] == REVISION


def scan(docker: Docker, image: str) -> list[str]:
    """What looks like a secret in the files of an image."""
    script = f"{Path(leaks.__file__)}:/leaks.py:ro"
    words = ["--rm", "--network", "none", "--volume", script, "--user", "0", "--entrypoint", "python"]
    return docker("run", *words, image, "/leaks.py", "/").splitlines()


def test_the_image_holds_no_secret(docker: Docker, image: str, tmp_path: Path) -> None:
    planted = tmp_path / "settings.ini"
    planted.write_text("[s3]\nkey = " + "AK" + "IA" + "Q" * 16)
    assert list(leaks.leaks(str(tmp_path)))
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    environment = docker("inspect", "--format", "{{json .Config.Env}}", image)
    assert not leaks.CONTENT.search((history + environment).encode())
    named = re.compile("(?i)token|secret|passw|_key")
    assert not [word for word in json.loads(environment) if named.search(word)]
    held = [value for name, value in os.environ.items() if named.search(name) and len(value) > 12]
    assert not [value for value in held if value in history + environment]
    added = set(scan(docker, image)) - set(scan(docker, PYTHON))
    assert sorted(added) == []

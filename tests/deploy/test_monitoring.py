"""The shipped Prometheus configuration, rules and dashboard against a real Prometheus that scrapes the real service."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.host import REPOSITORY, run
from tests.deploy.plain import front_root
from tests.resilience.client import free_port

pytestmark = pytest.mark.deploy

PHOTO = (REPOSITORY / "service/static/examples/china_small.jpg").read_bytes()
PHOTOS, REFUSED = 12, 3


@pytest.fixture(scope="module")
def root(workplace: Path) -> Path:
    """A root folder with Prometheus and the shipped configuration in /etc/upsnet."""
    root = front_root(workplace)
    shutil.copytree(REPOSITORY / "docker/prometheus", root / "etc/upsnet", dirs_exist_ok=True)
    return root


def promtool(root: Path, *words: str) -> str:
    return run(["chroot", root, "env", "--chdir=/etc/upsnet", "promtool", *words])


def test_the_rules_fire_when_they_should_and_only_then(root: Path) -> None:
    names = re.findall(r"- alert: (\w+)", (REPOSITORY / "docker/prometheus/alerts.yml").read_text())
    tests = (REPOSITORY / "docker/prometheus/alerts_test.yml").read_text()
    for name in names:
        fires, silent = re.findall(rf"alertname: {name}\n\s+exp_alerts", tests), re.findall(rf"{name}\}}", tests)
        assert fires, name
        assert silent, name
    print(f"\n{len(names)} alerts\n{promtool(root, 'test', 'rules', 'alerts_test.yml')}")


def test_the_configuration_is_accepted(root: Path) -> None:
    print("\n" + promtool(root, "check", "config", "prometheus.yml"))


def post(port: int, body: bytes) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/panoptic", body, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class Prometheus:
    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **query: str) -> Any:
        """What it answers; its error where it has one."""
        words = urllib.parse.urlencode(query)
        try:
            with urllib.request.urlopen(f"{self._address}/{path}?{words}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def value(self, expression: str) -> float | None:
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def until(self, expression: str, expected: float) -> None:
        end = time.monotonic() + 60
        while (found := self.value(expression)) != expected:
            assert time.monotonic() < end, f"{expression} is {found}, not {expected}"
            time.sleep(0.5)


@contextlib.contextmanager
def prometheus(root: Path, target: int) -> Iterator[Prometheus]:
    """A running Prometheus; for the names of compose's network it gets one address."""
    port = free_port()
    text = (root / "etc/upsnet/prometheus.yml").read_text()
    static = f'    static_configs:\n      - targets: ["127.0.0.1:{target}"]\n'
    text, count = re.subn(r"    dns_sd_configs:\n(?:      .*\n)+", static, text)
    assert count == 1
    (root / "etc/upsnet/static.yml").write_text(text)
    shutil.rmtree(root / "tmp/prometheus", ignore_errors=True)
    words = ["--config.file=/etc/upsnet/static.yml", "--storage.tsdb.path=/tmp/prometheus", "--log.level=warn"]
    process = subprocess.Popen(
        ["chroot", str(root), "prometheus", *words, f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(150):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2).close()
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def service() -> Iterator[int]:
    """The real service with the demo archive; its port."""
    port = free_port()
    environment = {**os.environ, "UPSNET_PORT": str(port), "UPSNET_LOG_LEVEL": "error"}
    process = subprocess.Popen([sys.executable, "-m", "service"], cwd=REPOSITORY, env=environment)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5).close()
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(40)


def expressions() -> list[tuple[str, str]]:
    """Title and expression of every query of the dashboard, its variables filled in."""
    dashboard = json.loads((REPOSITORY / "docker/grafana/dashboards/upsnet.json").read_text())
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    values = {"$instance": ".+", "$__rate_interval": "20s"}
    for name, value in values.items():
        found = [(title, expression.replace(name, value)) for title, expression in found]
    return found


@pytest.fixture(scope="module")
def scraped(root: Path) -> Iterator[Prometheus]:
    """Prometheus after it has seen photos answered, at several scrapes."""
    with service() as port, prometheus(root, port) as found:
        found.until("upsnet_ready", 1)
        for _ in range(PHOTOS):
            assert post(port, PHOTO) == 200
            time.sleep(1)
        for _ in range(REFUSED):
            assert post(port, b"no photo") == 415
        found.until("sum(upsnet_requests_total)", PHOTOS + REFUSED)
        yield found


def test_prometheus_has_what_happened(scraped: Prometheus) -> None:
    expected = {
        'up{job="upsnet"}': 1,
        "upsnet_ready": 1,
        'upsnet_model_info{device="cpu",precision="float32",kernel="gather"}': 1,
        'upsnet_requests_total{status="200",code="ok"}': PHOTOS,
        'sum(upsnet_requests_total{status="415"})': REFUSED,
        'upsnet_images_total{outcome="ok"}': PHOTOS,
        'upsnet_images_total{outcome="invalid"}': REFUSED,
        "upsnet_request_seconds_count": PHOTOS + REFUSED,
        'upsnet_stage_seconds_count{stage="infer"}': PHOTOS,
        "upsnet_batch_images_sum": PHOTOS,
        "upsnet_worker_restarts_total": 0,
        "upsnet_queue_limit_images": 64,
        "upsnet_deadline_seconds": 30,
    }
    print()
    for expression, value in expected.items():
        found = scraped.value(expression)
        print(f"{expression} = {found}")
        assert found == value, expression


def test_its_rules_are_loaded_and_evaluated(scraped: Prometheus) -> None:
    end = time.monotonic() + 40
    while True:
        rules = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in rules) or time.monotonic() > end:
            break
        time.sleep(1)
    print("\n" + "\n".join(f"{rule['name']}: {rule['health']}, {rule['state']}" for rule in rules))
    assert {rule["state"] for rule in rules} == {"inactive"}
    assert {rule["health"] for rule in rules} == {"ok"}


def test_every_expression_of_the_dashboard_has_an_answer(scraped: Prometheus) -> None:
    print()
    empty = []
    for title, expression in expressions():
        found = scraped.ask("query", query=expression)["result"]
        values = [f"{float(series['value'][1]):.3g}" for series in found]
        print(f"{title}: {', '.join(values[:8])}")
        if not found:
            empty.append(title)
    assert empty == []


def test_the_dashboard_asks_the_provisioned_source() -> None:
    provisioning = REPOSITORY / "docker/grafana/provisioning"
    settings = (provisioning / "datasources/prometheus.yml").read_text()
    uid, url = (re.findall(rf"{key}: (\S+)", settings)[0] for key in ("uid", "url"))
    dashboard = json.loads((REPOSITORY / "docker/grafana/dashboards/upsnet.json").read_text())
    source, _ = dashboard["templating"]["list"]
    assert (source["name"], source["current"]["value"]) == ("datasource", uid)
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"] if panel.get("targets")} == {"${datasource}"}
    assert url == "http://prometheus:9090"  # the service of that name in docker-compose.monitoring.yml
    folder = re.findall(r"path: (\S+)", (provisioning / "dashboards/upsnet.yml").read_text())[0]
    assert f"./docker/grafana/dashboards:{folder}:ro" in (REPOSITORY / "docker-compose.monitoring.yml").read_text()

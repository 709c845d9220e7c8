"""The application beside its main route: health, metrics, the model, and how it starts and ends."""

import inspect
import multiprocessing
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model.interface.panoptic import Panoptic
from service import __version__
from service import app as application
from service.app import create_app
from service.metrics import Metrics
from service.workers.process import WarmUp, import_predictor, load_predictor
from tests.service import emulated
from tests.service.halves import METADATA, TopAndBottom, photo, settings
from tests.service.in_process import InProcess, serving


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with serving(settings(tmp_path), TopAndBottom(), raise_server_exceptions=False) as client:
        yield client


class Held(TopAndBottom):
    """Answers when `over` is set; `begun` tells that it has an image."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.over = threading.Event(), threading.Event()

    def predict(self, images: list[np.ndarray]) -> list[Panoptic]:
        self.begun.set()
        assert self.over.wait(10)
        return super().predict(images)


def drain(client: TestClient) -> None:
    client.portal.call(client.app.state.engine.drain, 0.0)  # type: ignore[union-attr, attr-defined]


def test_draining_refuses_work_and_stays_alive(client: TestClient) -> None:
    drain(client)
    answer = client.post("/panoptic", content=photo())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["connection"] == "close"
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, "The service is stopping.")
    assert client.get("/health/live").status_code == 200


def test_what_is_given_up_is_counted_as_refused(tmp_path: Path) -> None:
    held = Held()
    answers: list[Any] = []
    with serving(settings(tmp_path), held) as client:
        poster = threading.Thread(target=lambda: answers.append(client.post("/panoptic", content=photo())))
        poster.start()
        assert held.begun.wait(10)
        drain(client)
        poster.join()
        metrics = client.get("/metrics").text
        held.over.set()
    assert (answers[0].status_code, answers[0].json()["detail"]) == (503, "The service has stopped. Try again soon.")
    assert answers[0].headers["connection"] == "close"
    assert 'upsnet_requests_total{code="not_ready",status="503"} 1.0' in metrics
    assert 'upsnet_images_total{outcome="rejected"} 1.0' in metrics
    assert 'upsnet_images_total{outcome="cancelled"} 0.0' in metrics


def test_what_is_served_is_named_with_its_kernel(client: TestClient) -> None:
    facts = {"device": "cpu", "precision": "float32", "kernel": "none"}
    served = client.get("/model").json()
    assert served["fallbacks"] == {}
    assert {name: served[name] for name in ("model", *facts)} == {"model": "halves@00000000", **facts}
    metric = 'upsnet_model_info{device="cpu",kernel="none",name="halves@00000000",precision="float32"} 1.0'
    assert metric in client.get("/metrics").text
    assert served["threads"] == {"network": 1, "decode": client.app.state.engine.settings.decode_threads}  # type: ignore[attr-defined]
    assert served["metadata"] == METADATA.to_json()
    assert served["limits"]["max_queue"] == 64


def test_kernels_that_failed_are_named_by_the_model_and_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "load_predictor", emulated.fallen)
    monkeypatch.setattr(application, "import_predictor", nothing)
    with TestClient(create_app(settings(tmp_path, device="cuda:0"))) as client:
        client.portal.call(client.app.state.engine.wait_ready)  # type: ignore[union-attr, attr-defined]
        assert client.get("/model").json()["fallbacks"] == {"nms": "it raised ValueError: no"}
        named = 'upsnet_kernel_fallback_info{device="cuda:0",kernel="nms",reason="it raised ValueError: no"} 1.0'
        assert named in client.get("/metrics").text


def test_health_and_refusals_name_the_cause_when_a_worker_cannot_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = tmp_path / "name"
    name.write_text("first@1")
    monkeypatch.setattr(application, "load_predictor", partial(named, str(name)))
    monkeypatch.setattr(application, "import_predictor", nothing)
    with TestClient(create_app(settings(tmp_path))) as client:
        client.portal.call(client.app.state.engine.wait_ready)  # type: ignore[union-attr, attr-defined]
        name.write_text("second@2")
        for process in multiprocessing.active_children():
            process.kill()
        end = time.monotonic() + 20
        while "cannot" not in (answer := client.get("/health")).text and time.monotonic() < end:
            time.sleep(0.05)
        cause = "The archive has become second@2; first@1 is served. Restart the service."
        assert answer.json()["reason"] == f"The worker cannot be started again: {cause}"
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        refusal = client.post("/panoptic", content=photo())
        assert (refusal.status_code, refusal.json()["code"]) == (503, "not_ready")
        assert cause in refusal.json()["detail"]
        assert "upsnet_ready 0.0" in client.get("/metrics").text
        assert cause in caplog.messages[-1]


def nothing(_: int) -> None:
    pass


def named(path: str, *_: object) -> emulated.Emulated:
    return emulated.named(path)


def test_workers_get_what_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "WorkerPool", lambda factories, **options: (factories, options))
    chosen = settings(tmp_path, device="cuda:1", precision="float32", kernels="off", warmup_sizes="64x48")
    factories, options = application.make_pool(chosen, Metrics())  # type: ignore[misc]
    given = inspect.signature(load_predictor).bind(*factories["cuda:1"].args).arguments
    assert given == {
        "path": chosen.model,
        "device": "cuda:1",
        "precision": "float32",
        "kernels": "off",
        "log_form": "text",
        "log_level": "info",
    }
    assert (options["prepare"].func, options["prepare"].args) == (import_predictor, (1,))
    assert options["warm_up"] == WarmUp(((48, 64),), 8, 12_000_000)


def test_workers_on_the_cpu_have_names_and_share_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "WorkerPool", lambda factories, **options: (factories, options))
    factories, options = application.make_pool(settings(tmp_path, device="cpu, CPU"), Metrics())  # type: ignore[misc]
    assert list(factories) == ["cpu:0", "cpu:1"]
    assert {inspect.signature(load_predictor).bind(*each.args).arguments["device"] for each in factories.values()} == {
        "cpu"
    }
    assert options["prepare"].args == (2,)


def test_the_interface_has_the_version_of_the_service(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["info"]["version"] == __version__


def test_a_service_that_loads_lives_and_is_not_ready(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), InProcess(TopAndBottom(), ()))
    client = TestClient(app)  # not started
    assert client.get("/health/live").status_code == 200
    answer = client.get("/health")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "8")
    assert answer.json() == {
        "live": True,
        "ready": False,
        "reason": "The model is loading.",
        "model": None,
        "device": None,
        "workers": 0,
        "queue_images": 0,
    }
    assert client.get("/model").status_code == client.post("/panoptic", content=photo()).status_code == 503
    with TestClient(app) as client:
        client.portal.call(app.state.engine.wait_ready)  # type: ignore[union-attr]
        assert client.get("/health").json() == {
            "live": True,
            "ready": True,
            "reason": None,
            "model": "halves@00000000",
            "device": "cpu",
            "workers": 1,
            "queue_images": 0,
        }


def test_a_start_that_fails_is_told_to_whoever_waits_for_it(tmp_path: Path) -> None:
    class Broken(TopAndBottom):
        def warm_up(self, sizes: object, images: int = 1) -> None:  # noqa: ARG002
            raise ValueError(f"no room for {sizes}")

    with pytest.raises(ValueError, match="no room for"), serving(settings(tmp_path), Broken()):
        pass


def test_docs(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"400", "401", "406", "408", "413", "415", "422", "429", "503", "504"} <= set(
        paths["/panoptic"]["post"]["responses"]
    )


def test_metrics_give_what_alerts_compare_with(client: TestClient) -> None:
    def value(name: str) -> float:
        return float(
            next(line.split()[1] for line in client.get("/metrics").text.splitlines() if line.startswith(name))
        )

    assert (value("upsnet_ready"), value("upsnet_queue_limit_images"), value("upsnet_deadline_seconds")) == (1, 64, 30)
    drain(client)
    assert value("upsnet_ready") == 0


def test_metrics_count_what_is_under_way(tmp_path: Path) -> None:
    held = Held()
    with serving(settings(tmp_path), held) as client:

        def values() -> list[float]:
            lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
            return [float(lines[f"upsnet_{name}"]) for name in ("inflight_requests", "queue_pixels", "queue_images")]

        poster = threading.Thread(target=client.post, args=("/panoptic",), kwargs={"content": photo(6, 4)})
        poster.start()
        assert held.begun.wait(10)
        assert values() == [1, 24, 0]
        assert client.get("/health").json()["queue_images"] == 0
        held.over.set()
        poster.join()
        assert values() == [0, 0, 0]

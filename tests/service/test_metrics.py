"""What is counted, under which names."""

import re

from service.metrics import Metrics


def values(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_an_answer_is_counted_by_status_outcome_and_time() -> None:
    metrics = Metrics()
    metrics.request_finished(200, "ok", "ok", 0.3)
    metrics.request_finished(429, "queue_full", "rejected", 0.001)
    found = values(metrics)
    assert found['upsnet_requests_total{code="ok",status="200"}'] == 1
    assert found['upsnet_requests_total{code="queue_full",status="429"}'] == 1
    assert found['upsnet_images_total{outcome="ok"}'] == found['upsnet_images_total{outcome="rejected"}'] == 1
    assert found['upsnet_images_total{outcome="failed"}'] == 0  # there from the start, so that a rate can be taken
    assert found["upsnet_request_seconds_sum"] == 0.301
    assert found['upsnet_request_seconds_bucket{le="0.25"}'] == 1
    assert found['upsnet_request_seconds_bucket{le="0.5"}'] == 2


def test_batches_stages_and_workers_are_counted() -> None:
    metrics = Metrics()
    metrics.batch_started(3)
    metrics.stage_finished("infer", 0.2)
    metrics.stage_finished("queue", -0.1)  # clocks of two threads
    metrics.worker_restarted()
    metrics.device_memory_changed("cuda:0", 5)
    metrics.device_memory_changed("cuda:0", 7)
    metrics.device_memory_found("cuda:0", 80)
    found = values(metrics)
    assert (found["upsnet_batch_images_sum"], found["upsnet_batch_images_count"]) == (3, 1)
    assert found['upsnet_stage_seconds_sum{stage="infer"}'] == 0.2
    assert found['upsnet_stage_seconds_sum{stage="queue"}'] == 0
    assert found["upsnet_worker_restarts_total"] == 1
    assert found['upsnet_device_memory_bytes{device="cuda:0"}'] == 7
    assert found['upsnet_device_memory_total_bytes{device="cuda:0"}'] == 80


def test_kernels_that_failed_are_named_while_the_worker_that_found_them_lives() -> None:
    metrics = Metrics()
    metrics.kernels_checked("cuda:0", {"nms": "it raised ValueError: no", "panoptic": "so"})
    metrics.kernels_checked("cuda:1", {"nms": "so"})
    metrics.kernels_checked("cuda:0", {"nms": "it differs"})  # the next worker
    named = {name: value for name, value in values(metrics).items() if "fallback" in name}
    assert named == {
        'upsnet_kernel_fallback_info{device="cuda:0",kernel="nms",reason="it differs"}': 1,
        'upsnet_kernel_fallback_info{device="cuda:1",kernel="nms",reason="so"}': 1,
    }
    metrics.kernels_checked("cuda:0", {})
    metrics.kernels_checked("cuda:1", {})
    assert not any("fallback" in name for name in values(metrics))


def test_two_applications_count_apart_and_every_name_is_ours() -> None:
    one, other = Metrics(), Metrics()
    one.batch_started(1)
    assert values(other)["upsnet_batch_images_count"] == 0
    assert all(re.match("upsnet_", name) for name in values(one))

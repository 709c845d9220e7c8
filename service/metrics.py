"""What the service counts, in base units; each application has a registry of its own."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
OUTCOMES = ("ok", "rejected", "invalid", "expired", "cancelled", "failed")
STAGES = ("decode", "queue", "infer", "encode")


class Metrics:
    """Metrics of one application; its batcher, its workers and its image work tell it what happens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter("upsnet_requests", "Answers to POST /panoptic", ["status", "code"], registry=registry)
        self.images = Counter("upsnet_images", "What became of each request", ["outcome"], registry=registry)
        self.request_seconds = Histogram(
            "upsnet_request_seconds", "First byte to answer", buckets=SECONDS, registry=registry
        )
        self.stages = Histogram(
            "upsnet_stage_seconds", "Time of an image in each stage", ["stage"], buckets=SECONDS, registry=registry
        )
        self.batch_images = Histogram(
            "upsnet_batch_images", "Images in a batch", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.queue_images = Gauge("upsnet_queue_images", "Images that wait", registry=registry)
        self.queue_pixels = Gauge("upsnet_queue_pixels", "Pixels of images without an answer", registry=registry)
        self.upload_bytes = Gauge(
            "upsnet_upload_bytes",
            "Bytes of bodies that wait to be decoded and of answers that wait to be sent",
            registry=registry,
        )
        self.inflight = Gauge("upsnet_inflight_requests", "Requests being answered", registry=registry)
        self.worker_restarts = Counter("upsnet_worker_restarts", "Workers that were replaced", registry=registry)
        self.device_memory = Gauge(
            "upsnet_device_memory_bytes", "Memory a worker holds on its device", ["device"], registry=registry
        )
        self.device_memory_total = Gauge(
            "upsnet_device_memory_total_bytes", "Memory that a device has", ["device"], registry=registry
        )
        self.ready = Gauge("upsnet_ready", "1 when the service accepts images, else 0", registry=registry)
        self.queue_limit = Gauge("upsnet_queue_limit_images", "Images that may wait", registry=registry)
        self.deadline = Gauge("upsnet_deadline_seconds", "Deadline of requests that set none", registry=registry)
        self.model = Info("upsnet_model", "What is served", registry=registry)
        self.kernel_fallback = Info(
            "upsnet_kernel_fallback", "Kernels that failed on a device", ["device", "kernel"], registry=registry
        )
        self.loop_lag = Histogram(
            "upsnet_event_loop_lag_seconds", "How late the event loop is", buckets=SECONDS, registry=registry
        )
        self._fallbacks: dict[str, set[str]] = {}
        self._outcomes = {outcome: self.images.labels(outcome) for outcome in OUTCOMES}
        self._stages = {stage: self.stages.labels(stage) for stage in STAGES}

    def text(self) -> bytes:
        """As Prometheus scrapes it."""
        return generate_latest(self.registry)

    def batch_started(self, images: int) -> None:
        """A batch went to a device."""
        self.batch_images.observe(images)

    def stage_finished(self, stage: str, seconds: float) -> None:
        """One image left a stage."""
        self._stages[stage].observe(max(seconds, 0.0))

    def worker_restarted(self) -> None:
        """A worker is started in place of one that ended."""
        self.worker_restarts.inc()

    def device_memory_changed(self, device: str, used: int) -> None:
        """Bytes that a device's worker holds."""
        self.device_memory.labels(device).set(used)

    def device_memory_found(self, device: str, total: int) -> None:
        """Bytes that a device has."""
        self.device_memory_total.labels(device).set(total)

    def kernels_checked(self, device: str, fallbacks: Mapping[str, str]) -> None:
        """A device's worker is ready; these kernels have failed on it, each with the reason."""
        for kernel in self._fallbacks.get(device, set()).difference(fallbacks):
            self.kernel_fallback.remove(device, kernel)
        for kernel, reason in fallbacks.items():
            self.kernel_fallback.labels(device, kernel).info({"reason": reason})
        self._fallbacks[device] = set(fallbacks)

    def request_finished(self, status: int, code: str, outcome: str, seconds: float) -> None:
        """A POST /panoptic was answered, or its client left (499)."""
        self.requests.labels(str(status), code).inc()
        self._outcomes[outcome].inc()
        self.request_seconds.observe(seconds)

"""The application in replicas of Ray Serve, and how many of them there are."""

import asyncio
import logging
import os

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig, HTTPOptions
from ray.serve.metrics import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import create_app
from service.engine import Engine
from service.logs import set_up_logging
from service.settings import Settings
from service.streams import Streams

EXPORT_SECONDS = 5.0
"""Between two copies of the metrics."""


class DeployError(Exception):
    """Ray cannot deploy the service; the last line of the message says why."""


class Replica:
    """The application of `python -m service` in a process of Ray's.

    Args:
        settings: what the environment of the command set.
    """

    def __init__(self, settings: Settings) -> None:
        self._streams = Streams("replica")  # Ray leads them into files of its own, which libraries could fill
        set_up_logging(settings.log_format, settings.log_level)
        self._app = create_app(settings)
        self._app.add_middleware(OneRequestId)
        self._exporting = asyncio.ensure_future(export(self._app.state.engine))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray Serve sends requests to."""
        return self._app

    async def check_health(self) -> None:
        """Return when work is taken; Ray Serve waits for it before the first request.

        Raises:
            Exception: no work is taken; after three times Ray Serve replaces the replica.
        """
        engine: Engine = self._app.state.engine
        await engine.wait_ready()
        if outlook := engine.not_ready:
            raise RuntimeError(outlook.reason)


class OneRequestId:
    """Drops the application's X-Request-ID: Ray Serve adds the request's own, or the one that it made for it.

    Args:
        app: sends the header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != b"x-request-id"]
            await send(message)

        await self._app(scope, receive, send_on)


async def export(engine: Engine) -> None:
    """Copy the application's metrics to Ray's: a scrape of Ray has every replica, /metrics only one at random."""
    gauges: dict[str, Gauge] = {}
    try:
        await engine.wait_ready()  # before, the model's facts, which become labels, are not known
    except Exception:  # `check_health` tells why
        return
    while True:
        for family in engine.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                if sample.name not in gauges:
                    gauges[sample.name] = Gauge(sample.name, family.documentation, tuple(sample.labels))
                gauges[sample.name].set(sample.value, sample.labels)
        await asyncio.sleep(EXPORT_SECONDS)


def gpus_per_replica(device: str, in_cluster: int) -> int:
    """How many GPUs a replica asks Ray for."""
    if device == "auto":
        return 1 if in_cluster else 0
    return 0 if device.startswith("cpu") else len(device.split(","))


def target_per_replica(settings: Settings, gpus: int) -> int:
    """Requests in a replica above which another is started: a batch that runs and one that forms, on each device."""
    return 2 * settings.batch_size(on_cpu=not gpus) * max(gpus, 1)


def deployment(settings: Settings, gpus: int, most: int, **autoscaling: float) -> serve.Application:
    """The application, bound for `serve.run`.

    Args:
        settings: what the environment of the command set.
        gpus: GPUs of a replica; they are its cuda:0, cuda:1, ... whatever their numbers on the host.
        most: replicas, at most.
        autoscaling: more options of Ray Serve's `AutoscalingConfig`, such as `upscale_delay_s`.
    """
    device = ",".join(f"cuda:{number}" for number in range(gpus)) or "cpu"
    settings = settings.model_copy(update={"model": settings.model.resolve(), "device": device})
    ingress = serve.ingress()(Replica)
    return serve.deployment(
        ingress,
        name="upsnet",
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        autoscaling_config=AutoscalingConfig(
            min_replicas=1,
            max_replicas=most,
            target_ongoing_requests=target_per_replica(settings, gpus),
            **autoscaling,
        ),
        # The application's own queue refuses, with 429 and Retry-After, so Ray's two let more through than it takes.
        max_ongoing_requests=4 * settings.max_queue,
        max_queued_requests=4 * settings.max_queue,
        graceful_shutdown_timeout_s=settings.drain_seconds,
    ).bind(settings)


def connect() -> None:
    """Reach the cluster that `RAY_ADDRESS` names, or that of this host.

    Raises:
        DeployError: `RAY_ADDRESS` is no address, or that of a cluster of other versions.
        ConnectionError: nothing answers there.
    """
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS") or "auto", logging_level=logging.WARNING, log_to_driver=False)
    except (ValueError, RuntimeError) as error:
        raise DeployError(str(error)) from error


def start(settings: Settings, most: int | None, **autoscaling: float) -> None:
    """Deploy on the cluster that Ray is connected to, and return when a replica is ready.

    Args:
        settings: what the environment set.
        most: replicas, at most; None: as many as the cluster has room for now.
        autoscaling: more options of Ray Serve's `AutoscalingConfig`.

    Raises:
        DeployError: the cluster has no room for a replica, or none gets ready.
    """
    if "," in settings.device and settings.device.startswith("cpu"):
        raise DeployError(f"UPSNET_DEVICE='{settings.device}': under Ray Serve, replicas share the cores. Use cpu.")
    resources = {name: int(ray.cluster_resources().get(name, 0)) for name in ("CPU", "GPU")}
    gpus = gpus_per_replica(settings.device, resources["GPU"])
    if not gpus and settings.precision == "float16":
        raise DeployError(
            "UPSNET_PRECISION='float16' needs GPUs, and a replica has none here. Use bfloat16, float32 or auto."
        )
    most = most or (resources["GPU"] // gpus if gpus else resources["CPU"])
    if not most:
        raise DeployError(
            f"A replica needs {gpus} GPUs or else a core; the cluster has {resources}. Add hosts, name another "
            "UPSNET_DEVICE, or say --max-replicas for a cluster that will grow."
        )
    http = HTTPOptions(
        host=settings.host, port=settings.port, request_timeout_s=settings.deadline_ms / 1000 + settings.drain_seconds
    )
    serve.start(proxy_location="EveryNode", http_options=http)
    try:
        serve.run(deployment(settings, gpus, most, **autoscaling), name="upsnet")
    except RuntimeError as error:  # Ray Serve has no class of its own for it
        raise DeployError(str(error)) from error

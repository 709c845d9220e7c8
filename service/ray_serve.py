"""`python -m service.ray_serve`: the application on a Ray cluster, in replicas that follow the queue.

    ray start --head                                   # on the first host
    ray start --address FIRST:6379                     # on each other
    UPSNET_HOST=0.0.0.0 python -m service.ray_serve    # on any of them; again: replaces the replicas one by one
    serve shutdown --yes                               # ends it

A cluster runs code for whoever reaches it, and Ray reports to its makers: docs/operations.md has what prevents both.

Every host has this checkout with the extra `ray` and the archive, under the same paths. Settings are the service's; a
replica has as many GPUs as UPSNET_DEVICE names, one where it is auto and the cluster has any, else a CPU core. Each
host with a replica answers on UPSNET_PORT. A replica takes requests when its worker is ready, finishes those it has
before it goes, and is replaced when it has no worker for half a minute. How many: see `target_per_replica`.
"""

import argparse
import asyncio
import logging
import os
import sys
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

try:
    import ray
    from ray import serve
    from ray.serve.config import AutoscalingConfig, HTTPOptions
    from ray.serve.metrics import Gauge
except ModuleNotFoundError as error:
    sys.exit(f"error: this needs the extra `ray` ({error}). Install it with `uv sync --extra ray`.")

from service import settings as settings_module
from service.app import create_app
from service.engine import Engine
from service.logs import set_up_logging
from service.settings import Settings, SettingsError

EXPORT_SECONDS = 5.0


class Replica:
    """The application of `python -m service` in a process of Ray's.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
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
            RuntimeError: no work is taken; after three times the replica is replaced.
        """
        engine: Engine = self._app.state.engine
        while engine.batcher is None and engine.failure is None:  # the archive is being loaded
            await asyncio.sleep(0.1)
        if reason := engine.failure or engine.reason_not_ready:
            raise RuntimeError(reason)


class OneRequestId:
    """Drops the application's X-Request-ID, as Ray Serve adds the one that the request had or that it gave to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != b"x-request-id"]
            await send(message)

        await self._app(scope, receive, send_on)


async def export(engine: Engine) -> None:
    """Copy the application's metrics to Ray's, of which a scrape has every replica; /metrics has one at random."""
    gauges: dict[str, Any] = {}
    while engine.batcher is None:  # until then the model's facts, which become labels, are not known
        await asyncio.sleep(0.1)
    while True:
        engine.metrics.ready.set(engine.reason_not_ready is None)
        for family in engine.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                if sample.name not in gauges:
                    gauges[sample.name] = Gauge(sample.name, family.documentation, tuple(sample.labels))
                gauges[sample.name].set(sample.value, sample.labels)
        await asyncio.sleep(EXPORT_SECONDS)


def gpus_per_replica(device: str, in_cluster: int) -> int:
    """GPUs that a replica asks Ray for."""
    if device == "auto":
        return 1 if in_cluster else 0
    return 0 if device == "cpu" else len(device.split(","))


def target_per_replica(settings: Settings, gpus: int) -> int:
    """Requests in a replica above which there should be more: a batch that runs and one that forms, on each device."""
    batch = settings.max_batch_size or (8 if gpus else 1)
    return 2 * batch * max(gpus, 1)


def deployment(settings: Settings, gpus: int, most: int, **autoscaling: float) -> Any:
    """The application, bound for `serve.run`.

    Args:
        settings: of the service.
        gpus: of a replica; they are its cuda:0, cuda:1, ... whatever their numbers on the host.
        most: replicas.
        autoscaling: more of Ray Serve's `AutoscalingConfig`, such as `upscale_delay_s`.
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
        # The application's own queue refuses, with 429 and Retry-After, so Ray's two have to let more than it through.
        max_ongoing_requests=4 * settings.max_queue,
        max_queued_requests=4 * settings.max_queue,
        graceful_shutdown_timeout_s=settings.drain_seconds,
    ).bind(settings)


def start(settings: Settings, most: int | None, **autoscaling: float) -> None:
    """Deploy on the cluster that is connected, and return when a replica is ready.

    Raises:
        SettingsError: the cluster has no room for a replica.
    """
    resources = {name: int(ray.cluster_resources().get(name, 0)) for name in ("CPU", "GPU")}
    gpus = gpus_per_replica(settings.device, resources["GPU"])
    most = most or (resources["GPU"] // gpus if gpus else resources["CPU"])
    if not most:
        raise SettingsError(
            f"A replica needs {gpus} GPUs or else a core; the cluster has {resources}. Add hosts, name another "
            "UPSNET_DEVICE, or say --max-replicas for a cluster that will grow."
        )
    http = HTTPOptions(
        host=settings.host, port=settings.port, request_timeout_s=settings.deadline_ms / 1000 + settings.drain_seconds
    )
    serve.start(proxy_location="EveryNode", http_options=http)
    serve.run(deployment(settings, gpus, most, **autoscaling), name="upsnet")


def main() -> int:
    """Deploy; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m service.ray_serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max-replicas", type=int, help="at most; as many as the cluster has room for now")
    args = parser.parse_args()
    try:
        settings = settings_module.load()
        ray.init(address=os.environ.get("RAY_ADDRESS") or "auto", logging_level=logging.WARNING, log_to_driver=False)
        start(settings, args.max_replicas)
    except (SettingsError, ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        print(f"error: {str(error).strip().splitlines()[-1]}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"upsnet answers on port {settings.port} of each host with a replica")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m service.ray_serve`: the application on a Ray cluster, in replicas that follow the queue.

    uv run --extra ray ray start --head                  # on the first host
    uv run --extra ray ray start --address FIRST:6379    # on each other
    UPSNET_HOST=0.0.0.0 uv run --extra ray python -m service.ray_serve    # on any; again: replaces the replicas
    uv run --extra ray serve shutdown --yes              # ends it

A cluster runs code for whoever reaches it, and Ray reports to its makers: docs/operations.md has what prevents both.

Every host has this checkout with the extra `ray` and the archive, under the same paths. Settings are the service's; a
replica has as many GPUs as UPSNET_DEVICE names, one where it is auto and the cluster has any, else a CPU core. Each
host with a replica answers on UPSNET_PORT. A replica takes requests when its worker is ready, finishes those it has
before it goes, and is replaced when it has no worker for half a minute. For how many there are, see
`service.ray_serve.replica.target_per_replica`.
"""

import argparse
import re
import sys

from service import preflight
from service import settings as settings_module
from service.settings import SettingsError


def count(text: str) -> int:
    """A number of replicas, for an argument's `type`."""
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 1 to 999999")
    return int(text)


def main() -> int:
    """Deploy; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m service.ray_serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--max-replicas", type=count, help="most replicas (default: as many as the cluster has room for now)"
    )
    args = parser.parse_args()
    try:
        settings = settings_module.load()
        preflight.check_archive(settings)  # what else a host must have, the cluster's hosts have
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if unknown := settings_module.unknown_names():
        print(f"warning: {unknown}", file=sys.stderr)  # noqa: T201
    try:
        import ray

        from service.ray_serve import replica
    except ModuleNotFoundError as error:
        missing = f"error: this needs the extra `ray` ({error}). Install it with `uv sync --extra ray`."
        print(missing, file=sys.stderr)  # noqa: T201
        return 1
    try:
        replica.connect()
        replica.start(settings, args.max_replicas)
    except (replica.DeployError, ConnectionError, ray.exceptions.RayError) as error:
        print(f"error: {str(error).strip().splitlines()[-1]}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130
    print(f"upsnet answers on port {settings.port} of each host with a replica")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The description at /openapi.json against the running service, by schemathesis."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.resilience.client import free_port, our_server, serving

pytestmark = pytest.mark.resilience
VERSION = "4.32.5"
RUN = ["uv", "tool", "run", "--from", f"schemathesis=={VERSION}", "schemathesis"]
CONFIGURATION = """
[[operations]]
include-path = "/panoptic"
# X-Deadline-Ms says how long a client waits: 1 ms is too short for any service, and 504 its answer.
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]
# No schema can say which bytes are an image: others get 415 or 422.
checks.positive_data_acceptance.expected-statuses = ["2xx", 415, 422, 504]
"""
HOOKS = """
import schemathesis

@schemathesis.hook
def filter_case(context, case):
    # More than the maximum is no mistake of a client: it counts as the maximum, and the test of the header says so.
    given = {name.lower(): value for name, value in (case.headers or {}).items()}.get("x-deadline-ms", "")
    return not (str(given).isdecimal() and int(given) > 30_000)
"""


@pytest.fixture(scope="module", autouse=True)
def schemathesis() -> None:
    if shutil.which("uv") is None:
        pytest.skip("schemathesis is run by `uv tool run`: install uv")
    there = subprocess.run([*RUN, "--version"], capture_output=True, text=True, timeout=300)
    if there.returncode:
        pytest.skip(f"schemathesis {VERSION} cannot be had: {there.stderr.strip().splitlines()[-1:]}")


@pytest.mark.parametrize("key", ["", "one"])
def test_the_service_is_as_its_description_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("UPSNET_API_KEYS", key)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    (tmp_path / "hooks.py").write_text(HOOKS)

    async def scenario() -> tuple[int, str]:
        port = free_port()
        async with serving(our_server(port, "--base-ms", "1"), port):
            words = ["--config-file", str(configuration), "run", f"http://127.0.0.1:{port}/openapi.json"]
            words += ["--max-examples", "200", "--seed", "1", "--no-color", "--generation-database", "none"]
            words += ["--header", f"X-API-Key: {key}"] if key else []
            run = await asyncio.create_subprocess_exec(
                *RUN,
                *words,
                cwd=tmp_path,
                env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(run.communicate(), 500)
            return run.returncode or 0, output.decode()

    status, output = asyncio.run(scenario())
    print(f"\n{output[-1500:]}")
    assert status == 0, output
    assert "Selected: 6/6" in output

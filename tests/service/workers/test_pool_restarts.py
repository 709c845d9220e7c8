"""Workers that do not come back at once: they are tried again, and what is waited for is told."""

import asyncio
import functools
from pathlib import Path
from typing import Any

from service.workers import pool as workers
from service.workers.pool import WorkerPool
from tests.service import emulated
from tests.service.workers.test_pool import Heard, kill_workers, started, until


def test_what_is_waited_for_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY_SECONDS", 7.0)
    obstacle = tmp_path / "obstacle"

    async def scenario() -> None:
        two = functools.partial(emulated.broken_while, str(obstacle))
        pool = WorkerPool({"a": two, "b": two}, max_pixels=1_000_000)
        reason, seconds = pool.outlook()
        assert (reason, seconds) == ("The model is loading.", 12.0)
        starting = asyncio.ensure_future(pool.start())
        await until(lambda: "process" in pool.outlook().reason)
        assert pool.outlook().reason == "The model is loading: a process starts."
        await starting
        try:
            obstacle.touch()
            kill_workers()
            await until(lambda: "cannot" in pool.outlook().reason)
            reason, seconds = pool.outlook()
            assert reason == "The worker cannot be started again: The log says why."
            assert 5.0 < seconds <= 7.0
        finally:
            await pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_start_lasts_until_the_last_device_is_ready(tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"
    obstacle.touch()

    async def scenario() -> None:
        slow = functools.partial(emulated.held_while, str(obstacle))
        pool = WorkerPool({"a": emulated.Emulated, "b": slow}, max_pixels=1_000_000)
        starting = asyncio.ensure_future(pool.start())
        await until(lambda: pool.live == 1)
        await until(lambda: "archive" in pool.outlook().reason)
        assert pool.outlook().reason == "The model is loading: the archive is loaded."
        obstacle.unlink()
        await starting
        await pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_restart_that_fails_is_tried_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY_SECONDS", 0.01)
    obstacle = tmp_path / "obstacle"

    async def scenario() -> None:
        heard = Heard()
        async with started(functools.partial(emulated.broken_while, str(obstacle)), heard=heard) as pool:
            obstacle.touch()
            kill_workers()
            await until(lambda: heard.restarts == 2)
            obstacle.unlink()
            await until(lambda: pool.live)

    asyncio.run(scenario())


def test_a_worker_never_answers_for_another_model(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY_SECONDS", 0.01)
    name = tmp_path / "name"
    name.write_text("first@1")

    async def scenario() -> None:
        heard = Heard()
        async with started(functools.partial(emulated.named, str(name)), heard=heard) as pool:
            name.write_text("second@2")
            kill_workers()
            await until(lambda: heard.restarts == 2)
            assert not pool.live
            cause = "The archive has become second@2; first@1 is served. Restart the service."
            assert pool.outlook().reason == f"The worker cannot be started again: {cause}"
            assert pool.outlook().seconds < 30.0
            name.write_text("first@1")
            await until(lambda: pool.live)

    asyncio.run(scenario())
    assert "The archive has become second@2; first@1 is served. Restart the service." in caplog.text

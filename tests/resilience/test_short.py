"""The faults behind the queue in seconds: few requests, quick models, the same assertions."""

import asyncio
import functools

from tests.resilience import scenarios
from tests.service.emulated import Emulated


def test_every_good_image_beside_a_poisonous_one_gets_its_own_answer() -> None:
    asyncio.run(scenarios.poison(160, Emulated))


def test_a_worker_that_is_killed_under_load_costs_no_answer() -> None:
    asyncio.run(scenarios.murder(2.5, 0.3, functools.partial(Emulated, base_ms=10.0, image_ms=1.0)))


def test_ten_times_the_capacity_is_refused_at_once_and_never_late() -> None:
    asyncio.run(scenarios.overload(2.0, functools.partial(Emulated, base_ms=20.0, image_ms=5.0), 133.0))


def test_clients_that_leave_never_reach_the_device() -> None:
    asyncio.run(scenarios.leaving(1000, functools.partial(Emulated, base_ms=200.0)))


def test_a_shortage_of_memory_fails_nobody_and_the_budget_recovers() -> None:
    asyncio.run(scenarios.shortage(80, scenarios.in_memory_for(3)))

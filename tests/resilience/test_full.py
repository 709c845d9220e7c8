"""The faults behind the queue at full length: `pytest -m resilience -s`. T(n) = 20 + 5 n ms, emulated without CPU."""

import asyncio

import pytest

from tests.resilience import scenarios
from tests.service.emulated import standard

pytestmark = pytest.mark.resilience


def test_2000_requests_with_a_poisonous_image_in_every_batch() -> None:
    asyncio.run(scenarios.poison(2000, standard))


def test_a_kill_5_s_after_each_start_for_3_minutes() -> None:
    asyncio.run(scenarios.murder(180.0, 5.0, standard))


def test_ten_times_the_capacity_for_a_minute() -> None:
    asyncio.run(scenarios.overload(60.0, standard, 133.0))


def test_1000_clients_that_queue_and_leave() -> None:
    asyncio.run(scenarios.leaving(1000, standard))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_shortage_of_memory_inside_a_scripted_operator() -> None:
    operator = pytest.importorskip("tests.resilience.operator")
    asyncio.run(scenarios.shortage(400, operator.Scripted))

"""Both lanes of the gateway in front of the simulated vendors, over real sockets.

A gateway lives as long as its test file: starting one costs more than most attacks. What a test
adds to the database stays until then, so tests make tenants of their own and ask about those.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from providers.simulator.app import SimulatorApplication
from providers.simulator.world import World
from tests.running import served
from tests.security.arena import Arena, gateway, register_vendors

LANES = ("asgi", "drf")


@pytest.fixture(scope="session")
def simulated() -> Iterator[tuple[str, World]]:
    world = World()
    with served(SimulatorApplication(world)) as url:
        yield url, world


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """What tests write is committed, and removed behind the last test of a file.

    Takes the place and the name of pytest-django's, which empties the tables after each test:
    only for tests that ask for a fixture of this name is a database made at all."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def vendors(transactional_db: None, simulated: tuple[str, World]) -> Iterator[tuple[str, World]]:
    """Every simulated vendor, registered by the platform."""
    with override_settings(UPSTREAM_ALLOWED_NETWORKS=["127.0.0.0/8"]):
        register_vendors(simulated[0])
        yield simulated


@pytest.fixture(scope="module", params=LANES)
def running(request: pytest.FixtureRequest, vendors: tuple[str, World]) -> Iterator[Arena]:
    with gateway(request.param, *vendors) as made:
        yield made


@pytest.fixture
def arena(running: Arena) -> Arena:
    """Each lane in turn, its vendors with an empty memory."""
    running.world.reset()
    return running


@pytest.fixture(scope="module")
def running_fast_lane(vendors: tuple[str, World]) -> Iterator[Arena]:
    with gateway("asgi", *vendors) as made:
        yield made


@pytest.fixture
def fast_lane(running_fast_lane: Arena) -> Arena:
    """The ASGI lane alone, for what only production serves."""
    running_fast_lane.world.reset()
    return running_fast_lane

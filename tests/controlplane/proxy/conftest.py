"""A gateway in front of the simulator: real sockets on both sides.

A gateway lives as long as its test file: starting one costs more than most tests. What a test adds
to the database stays until then."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.test import Client, override_settings
from pytest_django.plugin import DjangoDbBlocker

from controlplane.kit.secret import Secret
from controlplane.proxy import loop
from controlplane.proxy.lane_asgi import ProxyApplication
from controlplane.proxy.state import GatewayState
from providers.catalog import services
from providers.catalog.models import Provider
from providers.credentials.services import store_key
from providers.simulator.app import SimulatorApplication
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tests.running import served


@dataclass
class Gateway:
    """Where it answers, a key for it, and what the vendors behind it saw."""

    url: str
    key: str
    tenant: Tenant
    vendors: str
    world: World
    state: GatewayState | None = None
    providers: dict[str, Provider] = field(default_factory=dict)

    @property
    def running_state(self) -> GatewayState:
        """Of the lane that answers here."""
        return self.state or loop.pipeline_loop().state

    def headers(self, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", **more}


# Registration -> (protocol, the vendor's folder and version path in the simulator, its models).
VENDORS = {
    "sim-openai": ("openai-completions", "/openai/v1", "sim-gpt"),
    "sim-anthropic": ("anthropic-messages", "/anthropic", "sim-claude"),
}


@pytest.fixture(scope="session")
def simulated() -> Iterator[tuple[str, World]]:
    world = World()
    with served(SimulatorApplication(world)) as url:
        yield url, world


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """What tests write is committed, and removed behind the last test of a file."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def registry(transactional_db: None, simulated: tuple[str, World]) -> Iterator[dict[str, Provider]]:
    """One registration per vendor, each with a stored key, shared with every tenant."""
    with override_settings(UPSTREAM_ALLOWED_NETWORKS=["127.0.0.0/8"]):
        yield register_vendors(simulated[0])


def register_vendors(url: str) -> dict[str, Provider]:
    made: dict[str, Provider] = {}
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        for slug, (protocol, path, model) in VENDORS.items():
            provider = services.register(slug=slug, protocol=protocol, base_url=url + path)
            store_key(provider=provider, label="one", secret=Secret(f"sim-{slug}"))
            for name in (model, *(f"{model}+{option}" for option in OPTIONS)):
                services.add_model(provider=provider, upstream_id=name, facts=FACTS)
            made[slug] = provider
    return made


# What the simulated models can do, as the catalog would say it.
FACTS = {
    "reasoning": True,
    "modalities": ["text", "image"],
    "quirks": {"supports_output_format": True},
}
OPTIONS = (
    "tool",
    "thinktool",
    "status=429+after=7",
    "status=503",
    "cut=3",
    "miderror=3",
    "stall=2",
    "rate=25",
)


@pytest.fixture(scope="module", params=["asgi", "drf"])
def running(
    request: pytest.FixtureRequest,
    registry: dict[str, Provider],
    simulated: tuple[str, World],
) -> Iterator[Gateway]:
    """Both lanes, one suite: the ASGI application, and Django alone with the DRF views."""
    with started(request.param, registry, simulated) as gateway:
        yield gateway


@contextlib.contextmanager
def started(
    lane: str, registry: dict[str, Provider], simulated: tuple[str, World]
) -> Iterator[Gateway]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        tenant = Tenant.objects.create(slug=f"t{uuid.uuid4().hex[:8]}", name="Acme")
        _, secret = create_key(tenant=tenant, label="proxy")
    django = get_asgi_application()
    state = GatewayState() if lane == "asgi" else None
    app = ProxyApplication(django, state) if state is not None else django
    try:
        with served(app, lifespan="on" if lane == "asgi" else "off") as url:
            yield Gateway(url, secret.reveal(), tenant, *simulated, state, registry)
    finally:
        loop.stop()


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    """Each lane in turn, its vendors with an empty memory."""
    running.world.reset()
    return running


@pytest.fixture
def django_client() -> Client:
    return Client()

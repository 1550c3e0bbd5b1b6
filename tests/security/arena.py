"""A gateway under attack: who may call it, what the vendors behind it saw, and how to ask."""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.core.asgi import get_asgi_application

from controlplane.kit.secret import Secret
from controlplane.proxy import loop
from controlplane.proxy.lane_asgi import ProxyApplication
from controlplane.proxy.state import GatewayState
from providers.catalog import services
from providers.credentials.services import store_key
from providers.routing.error_rules import set_error_rules
from providers.routing.table import ErrorRule
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tests import ports
from tests.running import served

VENDOR_KEY = "sim-vendor-key-of-the-platform"
# Registrations, so that each protocol is somebody's upstream: model name by dialect's nickname.
MODELS = {"chat": "sim-gpt", "responses": "sim-gpt-responses", "messages": "sim-claude",
          "gemini": "sim-gemini"}  # fmt: skip


@dataclass
class Arena:
    """Where the gateway answers, a key for it, and the simulated vendors behind it."""

    lane: str
    url: str
    key: str
    tenant: Tenant
    vendors: str
    world: World = field(repr=False)
    state: GatewayState | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def learn(self) -> None:
        """The gateway knows the keys made until now: it would within a second by itself."""
        state = self.state or loop.pipeline_loop().state
        state.keys.reload()

    def bearer(self, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", **more}


def new_tenant(name: str = "Acme", **key: Any) -> tuple[Tenant, str]:
    """A tenant and the text of a key of its own."""
    with acting_as("command", None, "tests"), scope.platform("tests"):
        tenant = Tenant.objects.create(slug=f"t{uuid.uuid4().hex[:8]}", name=name)
        _, secret = create_key(tenant=tenant, label=f"{name} proxy", **key)
    return tenant, secret.reveal()


def register_vendors(url: str) -> None:
    """Every simulated vendor; the same with little patience; and one whose port is closed."""
    hasty = {"first_byte_timeout_seconds": 0.5, "idle_timeout_seconds": 0.5}
    with acting_as("command", None, "tests"), scope.platform("tests"):
        vendors = services.register(
            slug="vendors", catalog_id="simulator", endpoint={"origin": url}
        )
        impatient = services.register(
            slug="hasty",
            catalog_id="simulator",
            endpoint={"origin": url},
            prefix="hasty",
            # Never the second choice for a name that both know.
            force_model_prefix=True,
            **hasty,
        )
        away = services.register(
            slug="away",
            catalog_id="simulator",
            endpoint={"origin": f"http://127.0.0.1:{ports.unused()}"},
            connect_timeout_seconds=1,
            prefix="away",
            force_model_prefix=True,
        )
        # Faults are played one after the other: a refused key must not lock out those that follow.
        rules = [ErrorRule(status=status, action="continue") for status in (401, 403)]
        for provider in (vendors, impatient, away):
            store_key(provider=provider, label="one", secret=Secret(VENDOR_KEY))
            set_error_rules(provider, rules)


@contextlib.contextmanager
def gateway(lane: str, vendors: str, world: World) -> Iterator[Arena]:
    """One lane on a socket: the ASGI application, or Django alone with the DRF views."""
    tenant, key = new_tenant()
    django = get_asgi_application()
    state = GatewayState() if lane == "asgi" else None
    app = ProxyApplication(django, state) if state is not None else django
    try:
        with served(app, lifespan="on" if lane == "asgi" else "off") as url:
            yield Arena(lane, url, key, tenant, vendors, world, state)
    finally:
        loop.stop()


# --- raw sockets ---------------------------------------------------------------------------------


@dataclass
class RawAnswer:
    """What came back; `status` 0 = the connection was closed without an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # Everything behind the first answer: a second one here means two requests were seen.
    rest: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


def raw(
    address: tuple[str, int], data: bytes, *, seconds: float = 10.0, hangs_up: bool = False
) -> RawAnswer:
    """Sends bytes as they are and reads until the other side closes (send `connection: close`).
    `hangs_up`: what has not come after `seconds` will not come."""
    with socket.create_connection(address, timeout=seconds) as sock:
        # Refused before all was sent: the answer, if any, is what counts.
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        received = b""
        try:
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(65_536):
                    received += piece
        except TimeoutError:
            if not hangs_up:
                raise
    return parse(received)


def parse(received: bytes) -> RawAnswer:
    if not received:
        return RawAnswer(0)
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    status = int(first.split(b" ")[1])
    if headers.get("transfer-encoding") == "chunked":
        body, rest = _dechunked(rest)
    else:
        length = int(headers.get("content-length", len(rest)))
        body, rest = rest[:length], rest[length:]
    return RawAnswer(status, headers, body, rest)


def _dechunked(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found or not size:
            return body, b""
        count = int(size.split(b";")[0], 16)
        if count == 0:
            return body, data.removeprefix(b"\r\n")
        body, data = body + data[:count], data[count + 2 :]

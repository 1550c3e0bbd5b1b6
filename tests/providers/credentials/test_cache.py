"""What a request to an endpoint carries: its credential, and the sealed headers of its
registration."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from django.db import OperationalError

from controlplane.kit.database_threads import database_threads
from controlplane.kit.secret import Secret
from providers.catalog.services import change_registration, register
from providers.credentials import cache as cache_module
from providers.credentials.cache import CredentialCache
from providers.credentials.services import store_key
from providers.routing.loader import load_table
from providers.signing.outbound import Outbound
from tenants import scope
from tenants.audit.actor import acting_as

pytestmark = pytest.mark.django_db(transaction=True)


def test_sealed_headers_go_with_the_request_and_never_over_the_credential() -> None:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        provider = register(
            slug="acme",
            protocol="openai-completions",
            base_url="https://llm.example.com",
            secret_headers={"X-Team": Secret("t0p"), "Authorization": Secret("Bearer other")},
        )
        store_key(provider=provider, label="one", secret=Secret("sk-1"))
        from providers.catalog.services import add_model

        add_model(provider=provider, upstream_id="m")
        endpoint = load_table(uuid.uuid4()).targets["m"][0].endpoint
    cache = CredentialCache()
    credential = endpoint.credentials[0]
    outbound = Outbound("POST", endpoint.base_url, {}, b"{}")

    async def twice() -> list[dict[str, str]]:
        first = await cache.headers(endpoint, credential, outbound)
        with acting_as("command", None, "tests"), scope.platform("tests"):
            await database_threads.run(_take_away, provider.pk)
        held = await cache.headers(endpoint, credential, outbound)
        cache.forget()
        return [first, held, await cache.headers(endpoint, credential, outbound)]

    try:
        first, held, after = asyncio.run(twice())
    finally:
        database_threads.close()
    assert first == {"X-Team": "t0p", "Authorization": "Bearer sk-1"}
    assert held == first
    assert after == {"Authorization": "Bearer sk-1"}


def _take_away(provider_id: uuid.UUID) -> None:
    from providers.catalog.models import Provider

    with acting_as("command", None, "tests"), scope.platform("tests"):
        change_registration(Provider.objects.get(pk=provider_id), secret_headers={})


def test_while_the_database_is_away_it_serves_for_a_minute(
    monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    """Bar R7: what was read lately goes on; then it is nobody's to say whether it was revoked."""
    clock = 1000.0
    monkeypatch.setattr(cache_module.time, "monotonic", lambda: clock)
    reads = 0
    is_away = False

    async def read() -> str:
        nonlocal reads
        reads += 1
        if is_away:
            raise OperationalError("gone")
        return f"secret {reads}"

    memory: cache_module._Memory[str] = cache_module._Memory()

    def now() -> str:
        return asyncio.run(memory.read("one", read, lambda value: value != "ended"))

    assert [now(), now()] == ["secret 1", "secret 1"]
    is_away = True
    clock += cache_module.LIFETIME_SECONDS + 1
    assert [now(), now()] == ["secret 1", "secret 1"]
    assert reads == 2, "a database that is away is not asked for every request"
    clock += cache_module.OUTAGE_SECONDS - cache_module.LIFETIME_SECONDS
    with pytest.raises(OperationalError):
        now()
    is_away = False
    assert now() == "secret 4"

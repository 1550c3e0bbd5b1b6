"""Bar T3 at the proxy: two tenants, 200 requests in turns and at once, nothing of one in the
other's answers, lists, routes, credentials or log lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.db import transaction
from django.test import override_settings

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.models import Provider
from providers.credentials.services import store_key
from providers.routing.models import Alias, AliasTarget
from providers.simulator.world import World, masked
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.revisions.services import bump
from tests.security.arena import Arena, gateway, new_tenant
from tests.security.dialects import CHAT, DIALECTS

pytestmark = pytest.mark.storage

ROUNDS = 200


@dataclass(frozen=True)
class House:
    """A tenant with a registration, an alias and a key of the same names as the other's."""

    tenant: Tenant
    key: str
    narrow_key: str
    # What the tenant's own registration sends to its vendor, as the simulator shows it.
    credential: str
    # What the alias `house` means here, and the one name that only exists here.
    served_by: str
    own_alias: str


def furnish(vendors: str, name: str, upstream: str) -> House:
    tenant, key = new_tenant(name)
    secret = f"sim-own-key-of-{name.lower()}"
    with acting_as("command", None, "tests"), scope.tenant(tenant.id):
        mine = services.register(
            slug="mine",
            tenant_id=tenant.id,
            protocol="openai-completions",
            base_url=f"{vendors}/openai/v1",
        )
        store_key(provider=mine, label="one", secret=Secret(secret))
        for model in (f"{upstream}", f"sim-only-{name.lower()}"):
            services.add_model(provider=mine, upstream_id=model)
        for alias_name in ("house", f"house-of-{name.lower()}"):
            alias = Alias.objects.create(tenant=tenant, name=alias_name)
            AliasTarget.objects.create(alias=alias, provider=mine, model=upstream)
        _, narrow = create_key(tenant=tenant, label="narrow", allowed_models=["house"])
    return House(
        tenant,
        key,
        narrow.reveal(),
        masked(f"Bearer {secret}"),
        upstream,
        f"house-of-{name.lower()}",
    )


@pytest.fixture(scope="module", params=["asgi", "drf"])
def town(
    request: pytest.FixtureRequest, vendors: tuple[str, World]
) -> Iterator[tuple[Arena, House, House]]:
    with override_settings(UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS=["127.0.0.0/8"]):
        houses = (
            furnish(vendors[0], f"Acme{request.param}", "sim-gpt-acme"),
            furnish(vendors[0], f"Globex{request.param}", "sim-gpt-globex"),
        )
        with gateway(request.param, *vendors) as arena:
            yield arena, *houses


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def one_visit(client: httpx.AsyncClient, house: House, number: int) -> None:
    """One of five things a tenant does; what comes back is this tenant's alone."""
    mark = f"secret of {house.tenant.slug} number {number}"
    match number % 5:
        case 0 | 1:
            dialect = DIALECTS[number % 4]
            path, body = dialect.ask("house", mark, stream=number % 2 == 1)
            answer = await client.post(path, json=body, headers=bearer(house.key))
            assert answer.status_code == 200, answer.text
            # The simulator says again what it was told, in pieces where it is a stream.
            said = answer.text if number % 2 == 0 else joined(answer.text)
            assert house.tenant.slug in said, said
        case 2:
            listed = await client.get("/v1/models", headers=bearer(house.key))
            names = {model["id"] for model in listed.json()["data"]}
            assert {"house", house.own_alias, f"mine/{house.served_by}"} <= names
            assert not [name for name in names if name.startswith("house-of-")][1:]
        case 3:
            listed = await client.get("/v1/models", headers=bearer(house.narrow_key))
            assert [model["id"] for model in listed.json()["data"]] == ["house"]
            path, body = CHAT.ask(house.own_alias, mark)
            refused = await client.post(path, json=body, headers=bearer(house.narrow_key))
            assert refused.status_code == 404
        case _:
            path, body = CHAT.ask("sim-gpt", mark)
            # The same ones that the other tenant sends.
            same = {"X-Request-ID": "the-same-id-1", "Cookie": "a=b"}
            headers = bearer(house.key) | same | {"Idempotency-Key": f"same-{number}"}
            answer = await client.post(path, json=body, headers=headers)
            assert mark in answer.text
            assert "set-cookie" not in answer.headers


def joined(stream: str) -> str:
    """All texts of a stream, whatever the dialect calls them."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name in {"content", "text", "delta"} and isinstance(inner, str):
                    found.append(inner)
                else:
                    walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for line in stream.splitlines():
        if line.startswith("data: {"):
            walk(json.loads(line[6:]))
    return "".join(found)


def test_two_hundred_requests_in_turns(
    town: tuple[Arena, House, House], caplog: pytest.LogCaptureFixture
) -> None:
    arena, *houses = town
    arena.world.reset()

    async def run() -> None:
        async with httpx.AsyncClient(base_url=arena.url, timeout=30) as client:
            for start in range(0, ROUNDS, 20):
                await asyncio.gather(
                    *(
                        one_visit(client, houses[number % 2], number // 2)
                        for number in range(start, start + 20)
                    )
                )

    asyncio.run(run())
    whose = {house.credential: house for house in houses}
    seen_by = dict.fromkeys(house.tenant.slug for house in houses)
    for seen in arena.world.requests:
        house = whose.get(seen.headers.get("authorization", ""))
        marks = [other.tenant.slug for other in houses if other.tenant.slug in seen.body]
        assert len(marks) == 1, seen
        if house is None:
            # The platform's own registration, shared with both.
            assert '"sim-gpt"' in seen.body
            continue
        assert marks == [house.tenant.slug], "a prompt left with the other tenant's credential"
        assert house.served_by in seen.body, "the alias of one led to the other's model"
        seen_by[house.tenant.slug] = seen.number
    assert all(seen_by.values()), "both were served"
    for record in caplog.records:
        if isinstance(record.msg, dict) and record.msg.get("event") == "proxied":
            assert record.msg["tenant"] in {house.tenant.slug for house in houses}


def test_the_others_names_do_not_exist(town: tuple[Arena, House, House]) -> None:
    """The same answer as for a name that nobody has, whoever asks and however."""
    arena, *houses = town
    arena.world.reset()
    with httpx.Client(base_url=arena.url) as client:
        for me, other in (houses, houses[::-1]):
            name = other.tenant.name.lower()
            theirs = [other.own_alias, f"mine/{other.served_by}", f"sim-only-{name}"]
            for model in (*theirs, f"mine/sim-only-{name}"):
                for dialect in DIALECTS:
                    path, body = dialect.ask(model)
                    answer = client.post(path, json=body, headers=bearer(me.key))
                    assert answer.status_code == 404, (model, answer.text)
                    # Not even as a suggestion.
                    hint = answer.text.partition("Did you mean")[2].partition("?")[0]
                    assert other.own_alias not in hint
                    assert name not in hint
                one = client.get(f"/v1/models/{model}", headers=bearer(me.key))
                assert one.status_code == 404
    assert not arena.world.requests


def test_a_change_of_one_is_not_the_others(
    town: tuple[Arena, House, House], wait_until: Callable[..., Any]
) -> None:
    """A removed alias ends here and stays there."""
    arena, mine, other = town
    arena.world.reset()
    with httpx.Client(base_url=arena.url) as client:

        def status(house: House) -> int:
            path, body = CHAT.ask("fleeting")
            return client.post(path, json=body, headers=bearer(house.key)).status_code

        for house in (mine, other):
            with transaction.atomic(), scope.tenant(house.tenant.id):
                provider = Provider.objects.get(tenant=house.tenant, slug="mine")
                alias = Alias.objects.create(tenant=house.tenant, name="fleeting")
                AliasTarget.objects.create(alias=alias, provider=provider, model=house.served_by)
                bump("routes")
        wait_until(lambda: status(mine) == 200, what="mine is there")
        wait_until(lambda: status(other) == 200, what="theirs is there")
        with transaction.atomic(), scope.tenant(mine.tenant.id):
            Alias.objects.filter(tenant=mine.tenant, name="fleeting").delete()
            bump("routes")
        wait_until(lambda: status(mine) == 404, what="mine is gone")
        assert status(other) == 200

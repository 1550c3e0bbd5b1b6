"""A provider's key that comes with the request: where it goes, and where it does not."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.db import connection

from providers.catalog import services
from providers.catalog.policy import own_policy, set_policy
from providers.routing.models import Resting, RouteTrace
from providers.simulator.world import masked
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Membership, Tenant, User
from tenants.usage.models import UsageEvent
from tests.controlplane.proxy.conftest import FACTS, Gateway

HELLO = [{"role": "user", "content": "Hello"}]
MINE = "mine-0123456789-abcdefghij"
CHAT = "/v1/chat/completions"


@dataclass
class Caller:
    """A tenant that allows its callers to bring keys, and a registration without any of ours."""

    gateway: Gateway
    tenant: Tenant
    key: str
    bare: str
    model: str

    def __call__(self, model: str, own: str | None = MINE, path: str = CHAT, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        if own is not None:
            headers["X-Provider-Key"] = own
        sent = {"model": model, "messages": HELLO, "max_tokens": 50, **body}
        return httpx.post(self.gateway.url + path, headers=headers, json=sent, timeout=30)

    def shown(self) -> list[tuple[str, str]]:
        """Which provider saw which key, masked."""
        return [
            (seen.vendor, seen.headers.get("authorization") or seen.headers["x-api-key"])
            for seen in self.gateway.world.requests
        ]


@pytest.fixture
def call(gateway: Gateway, wait_until: Callable[..., Any]) -> Caller:
    name = uuid.uuid4().hex[:8]
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        tenant = Tenant.objects.create(slug=f"t{name}", name="Own keys")
        _, secret = create_key(tenant=tenant, label="proxy")
        bare = services.register(
            slug=f"bare-{name}",
            protocol="openai-completions",
            base_url=f"{gateway.vendors}/openai/v1",
        )
        services.add_model(provider=bare, upstream_id="sim-gpt", alias=name, facts=FACTS)
        services.add_model(provider=bare, upstream_id="sim-gpt+status=429+after=7", facts=FACTS)
        set_policy(own_policy(tenant.id), allows_own_keys=True)
    gateway.running_state.keys.reload()
    made = Caller(gateway, tenant, secret.reveal(), bare.slug, name)
    wait_until(lambda: made("sim-openai/sim-gpt").status_code == 200, what="the policy is known")
    gateway.world.reset()
    return made


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_it_serves_in_place_of_every_key_of_ours(call: Caller, stream: bool) -> None:
    answer = call("sim-openai/sim-gpt", stream=stream)
    assert answer.status_code == 200, answer.text
    assert call.shown() == [("openai", masked(f"Bearer {MINE}"))]
    assert answer.headers["x-route-key-source"] == "request"
    # And no other request sees it.
    call.gateway.world.reset()
    assert call("sim-openai/sim-gpt", own=None).status_code == 200
    assert call.shown() == [("openai", masked("Bearer sim-sim-openai"))]


def test_it_crosses_dialects_and_its_header_goes_nowhere(call: Caller) -> None:
    assert call("sim-anthropic/sim-claude").status_code == 200
    assert call("sim-anthropic/sim-claude", path="/v1/messages").status_code == 200
    assert call.shown() == [("anthropic", masked(f"Bearer {MINE}"))] * 2
    assert all("x-provider-key" not in seen.headers for seen in call.gateway.world.requests)


def test_a_registration_without_a_key_of_ours_works_with_it_alone(call: Caller) -> None:
    assert call(f"{call.bare}/{call.model}").status_code == 200
    refused = call(f"{call.bare}/{call.model}", own=None)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "credential_unavailable"


def test_it_goes_to_one_provider_or_to_nobody(call: Caller, wait_until: Callable[..., Any]) -> None:
    """Two registrations have the model: the key of one vendor is not shown to the other."""
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        services.add_model(
            provider=call.gateway.providers["sim-openai"], upstream_id="sim-gpt", alias=call.model
        )
    answer = wait_until(lambda: found if (found := call(call.model)).status_code != 200 else None)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "own_key_ambiguous"
    assert f"{call.bare}/{call.model}" in answer.json()["error"]["message"]
    call.gateway.world.reset()
    assert call(call.model).status_code == 400
    assert not call.gateway.world.requests


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, {}), ("/v1/messages", {})], ids=["openai", "anthropic"]
)
def test_a_refused_key_is_the_callers_own_affair(
    call: Caller, path: str, body: dict[str, Any]
) -> None:
    """It says so, and our credential of the same registration goes on serving others."""
    for _ in range(6):
        refused = call("sim-openai/sim-gpt", own="wrong-key-of-mine", path=path)
        assert refused.status_code == 401, refused.text
        assert "x-provider-key" in refused.json()["error"]["message"]
        assert "wrong-key-of-mine" not in refused.text
    busy = call(f"{call.bare}/sim-gpt+status=429+after=7")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    assert call("sim-openai/sim-gpt", own=None).status_code == 200
    with scope.platform("tests"):
        assert not Resting.objects.exists()


@pytest.mark.parametrize(
    "own", ["", "two words", "Bearer abc", "k" * 4_097, "kéy"], ids=["empty", "2", "3", "long", "é"]
)
def test_what_is_no_key_is_refused(call: Caller, own: str) -> None:
    headers = {"Authorization": f"Bearer {call.key}".encode(), "X-Provider-Key": own.encode()}
    body = {"model": "sim-openai/sim-gpt", "messages": HELLO}
    answer = httpx.post(call.gateway.url + CHAT, headers=headers, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "bad_provider_key"
    assert not call.gateway.world.requests


def test_only_where_the_tenant_allows_it(gateway: Gateway) -> None:
    headers = gateway.headers(**{"X-Provider-Key": MINE})
    body = {"model": "sim-openai/sim-gpt", "messages": HELLO}
    for path, sent in ((CHAT, body), ("/v1/route/explain", {"body": body})):
        answer = httpx.post(gateway.url + path, headers=headers, json=sent)
        assert answer.status_code == 403, answer.text
        assert answer.json()["error"]["code"] == "provider_key_not_allowed"
    assert not gateway.world.requests


def test_tokens_are_counted_and_money_is_not(call: Caller) -> None:
    assert call("sim-openai/sim-gpt").status_code == 200
    with scope.platform("tests"):
        event = UsageEvent.objects.filter(tenant=call.tenant).order_by("-sequence")[0]
    assert (event.cost_nanos, event.charge_nanos, event.price_basis) == (0, 0, "own_key")
    assert event.input
    assert (event.credential_id, event.credential_label) == ("", "the caller's own key")


def test_explain_says_whose_key_would_be_shown(call: Caller) -> None:
    body = {"model": "sim-openai/sim-gpt", "messages": HELLO}

    def source(own: str | None) -> Any:
        answer = call("", own=own, path="/v1/route/explain", body=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["would_be_tried"][0]["key_source"]

    assert source(MINE) == "request"
    # Where the platform keeps its own keys is no tenant's matter.
    assert source(None) is None
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        person = User.objects.create(email=f"{call.tenant.slug}@example.com", is_staff=True)
        member = Membership.objects.create(tenant=call.tenant, user=person, role="member")
        _, secret = create_key(tenant=call.tenant, label="staff", member=member)
    call.gateway.running_state.keys.reload()
    call.key = secret.reveal()
    assert source(None) == "stored"
    answer = call("sim-openai/sim-gpt", own=None)
    assert answer.headers["x-route-key-source"] == "stored"
    assert answer.headers["x-route-credential"] == "one"


def test_it_is_kept_nowhere(
    call: Caller,
    wait_until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level("DEBUG"):
        for model in ("sim-openai/sim-gpt", "sim-anthropic/sim-claude", f"{call.bare}/nothing"):
            call(model)
        call("sim-openai/sim-gpt", stream=True)
        with scope.platform("tests"):
            traces = RouteTrace.objects.filter(tenant=call.tenant)
            wait_until(lambda: traces.count() >= 3, what="decisions are written")
    texts = [caplog.text, *capfd.readouterr(), _dump()]
    assert not any(MINE in text for text in texts)
    held = call.gateway.running_state.credentials
    assert MINE not in repr(vars(held))
    remembered = [one.value for one in held._secrets._held.values()]
    assert not any(MINE in secret.reveal() for secret in remembered)


def _dump() -> str:
    """All that the database holds, as text."""
    with scope.platform("tests"), connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        found = []
        for table in tables:
            cursor.execute(f'SELECT * FROM "{table}"')
            found.append(repr(cursor.fetchall()))
    return "\n".join(found)

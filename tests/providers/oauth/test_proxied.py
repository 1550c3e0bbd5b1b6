"""A login at work: requests through the gateway carry its token, the vendor's own simulation checks
it, and one that ended early is renewed without the caller noticing."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.core.asgi import get_asgi_application

from controlplane.kit.jobs.models import Job
from controlplane.proxy import loop
from controlplane.proxy.lane_asgi import ProxyApplication
from controlplane.proxy.state import GatewayState
from providers.catalog.model_services import add_model
from providers.catalog.models import Provider
from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential
from providers.oauth import quota
from providers.oauth.refresh import ensure_fresh
from providers.simulator.logins.state import logins_of
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Membership, Tenant
from tests.providers.oauth.conftest import Desk
from tests.providers.oauth.test_pasted_logins import approve_in_browser, hand_in
from tests.running import served

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]


CLAUDE_CODE = "You are Claude Code, Anthropic's official CLI for Claude."


class Door:
    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, key: str, path: str, model: str) -> httpx.Response:
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        if path.endswith("/messages"):
            # As the vendor's own program asks, whose login this is; we add no such words.
            body |= {"max_tokens": 50, "system": [{"type": "text", "text": CLAUDE_CODE}]}
        return httpx.post(
            self.url + path, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30
        )


@contextlib.contextmanager
def door() -> Iterator[Door]:
    """A gateway that starts now, and so knows what was made before."""
    try:
        with served(ProxyApplication(get_asgi_application(), GatewayState())) as url:
            yield Door(url)
    finally:
        loop.stop()


def key_of(tenant: Tenant, member: Membership | None = None) -> str:
    with acting_as("command", None, "tests"), scope.tenant(tenant.pk):
        _, secret = create_key(tenant=tenant, label=uuid.uuid4().hex[:8], member=member)
    return secret.reveal()


def at_simulator(desk: Desk, catalog_id: str, path: str, *, secret: str = "") -> Provider:
    provider = desk.provider(catalog_id, secret=secret)
    with scope.platform("tests"):
        Provider.objects.filter(pk=provider.pk).update(base_url=desk.simulator.url + path)
    provider.refresh_from_db()
    return provider


def membership(desk: Desk) -> Membership:
    with scope.platform("tests"):
        found: Membership = Membership.objects.get(user=desk.user, tenant=desk.tenant)
    return found


@pytest.fixture
def claude(desk: Desk) -> Credential:
    """Of the vendor whose simulation looks at a login's token as the vendor would."""
    provider = at_simulator(desk, "claude-subscription", "/anthropic")
    with scope.platform("tests"):
        add_model(provider=provider, upstream_id="sim-claude")
    login = desk.begin(provider, "paste")
    hand_in(desk, login, approve_in_browser(desk, login))
    return desk.confirm(login)


def test_a_persons_login_serves_that_persons_keys_and_nobody_elses(
    desk: Desk, claude: Credential, other_tenant: Tenant
) -> None:
    mine = key_of(desk.tenant, membership(desk))
    others = (key_of(desk.tenant), key_of(other_tenant))
    with door() as gateway:
        answer = gateway.call(mine, "/v1/messages", "sim-claude")
        assert answer.status_code == 200, answer.text
        asked = desk.simulator.world.requests[-1]
        assert asked.path == "/anthropic/v1/messages"
        assert "x-api-key" not in {name.lower() for name in asked.headers}
        seen = len(desk.simulator.world.requests)
        for key in others:
            refused = gateway.call(key, "/v1/messages", "sim-claude")
            assert refused.status_code == 404, refused.text
    assert len(desk.simulator.world.requests) == seen


def test_a_login_shared_with_its_tenant_serves_the_tenant_and_no_other(
    desk: Desk, claude: Credential, other_tenant: Tenant
) -> None:
    with scope.platform("tests"):
        Credential.objects.filter(pk=claude.pk).update(is_personal=False)
    shared, foreign = key_of(desk.tenant), key_of(other_tenant)
    with door() as gateway:
        assert gateway.call(shared, "/v1/messages", "sim-claude").status_code == 200
        assert gateway.call(foreign, "/v1/messages", "sim-claude").status_code == 404


def test_a_token_the_vendor_ended_early_is_renewed_on_the_way(
    desk: Desk, claude: Credential
) -> None:
    mine = key_of(desk.tenant, membership(desk))
    before = ensure_fresh(claude.pk)
    with door() as gateway:
        assert gateway.call(mine, "/v1/messages", "sim-claude").status_code == 200
        # The vendor forgets this token and no other, hours before its end.
        logins_of(desk.simulator.world).tokens[before.token.reveal()].is_revoked = True
        answer = gateway.call(mine, "/v1/messages", "sim-claude")
        assert answer.status_code == 200, answer.text
    claude.refresh_from_db()
    assert claude.generation == before.generation + 1
    kinds = [event.kind for event in CredentialEvent.objects.order_by("at")]
    assert kinds == ["issued", "refused", "refreshed"]


def test_a_vendors_429_has_its_quota_looked_at(
    desk: Desk, claude: Credential, wait_until: Callable[..., Any]
) -> None:
    with scope.platform("tests"):
        add_model(provider=claude.provider, upstream_id="sim-claude+status=429+after=7")
    mine = key_of(desk.tenant, membership(desk))
    with door() as gateway:
        for _ in range(2):
            answer = gateway.call(mine, "/v1/messages", "sim-claude+status=429+after=7")
            assert answer.status_code == 429, answer.text
        jobs = Job.objects.filter(kind=quota.JOB, key=str(claude.pk))
        wait_until(jobs.exists, seconds=60, what="the job is written")
    assert jobs.count() == 1


def test_a_login_that_is_over_tells_the_caller_and_the_operator(
    desk: Desk, claude: Credential
) -> None:
    mine = key_of(desk.tenant, membership(desk))
    desk.simulator.control("logins/revoke", {"vendor": "claude", "account": "ada"})
    with door() as gateway:
        answer = gateway.call(mine, "/v1/messages", "sim-claude")
    assert answer.status_code in (401, 502, 503), answer.text
    claude.refresh_from_db()
    assert claude.state == Credential.State.NEEDS_LOGIN
    assert claude.state_reason


def test_codex_requests_name_the_account_of_the_login(desk: Desk) -> None:
    provider = at_simulator(desk, "openai-codex", "/codex/backend-api")
    with scope.platform("tests"):
        add_model(provider=provider, upstream_id="sim-codex")
    credential = desk.sign_in(provider, "device")
    mine = key_of(desk.tenant, membership(desk))
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", "sim-codex")
    assert answer.status_code == 200, answer.text
    headers = {k.lower(): v for k, v in desk.simulator.world.requests[-1].headers.items()}
    assert headers["chatgpt-account-id"] == credential.endpoint["account_id"]
    assert desk.simulator.rules() == []

"""A world with two tenants, everybody in it, and a client for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.apps import apps
from django.test import Client

from providers.catalog.models import Provider
from tenants import scope as scopes
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver
from tenants.alerts.receivers import create_receiver
from tenants.alerts.services import alert
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.idempotency.models import RememberedAnswer
from tenants.keys.models import ApiKey
from tenants.keys.services import create_key
from tenants.members.invitations import invite
from tenants.members.models import Invitation, Membership, Tenant, User
from tenants.members.services import add_member
from tenants.quotas.models import Limit, UsagePolicy
from tenants.quotas.services import create_limit
from tests.controlplane.api.logins.rows import furnish_logins
from tests.controlplane.api.providers.rows import furnish_registry

Role = Membership.Role
V1 = "/api/v1"


@dataclass
class Api:
    """Somebody at the control API."""

    client: Client
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> Any:
        """`if_match="1"` and the like become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = raw
        if data is None:
            data = b"" if body is None else json_bytes(body)
        return self.client.generic(
            method.upper(), path, data, content_type, headers={**self.headers, **named}
        )


def json_bytes(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()


def error_of(answer: Any) -> dict[str, Any]:
    """The error, whose shape is checked wherever one is looked at."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "param", "request_id"}
    assert body["error"]["message"]
    assert body["error"]["request_id"] == answer["X-Request-ID"]
    return dict(body["error"])


@dataclass
class Home:
    """A tenant with a member of each role and a row of each kind."""

    tenant: Tenant
    members: dict[str, Membership]
    key: ApiKey
    member_key: ApiKey
    invitation: Invitation
    event: AuditEvent
    limit: Limit
    platform_limit: Limit
    receiver: AlertReceiver
    platform_receiver: AlertReceiver
    registry: dict[str, Any]

    def ids(self, **others: Any) -> dict[str, str]:
        rows = {
            "tenant_id": self.tenant.id,
            "member_id": self.members["viewer"].id,
            "key_id": self.key.id,
            "invitation_id": self.invitation.id,
            "event_id": self.event.id,
            "limit_id": self.limit.id,
            "platform_limit_id": self.platform_limit.id,
            "receiver_id": self.receiver.id,
            "platform_receiver_id": self.platform_receiver.id,
            **self.registry,
        }
        return {name: str(value) for name, value in {**rows, **others}.items()}


def furnish(tenant: Tenant) -> Home:
    domain = f"{tenant.slug}.test"
    with acting_as("command", None, "tests"), scopes.tenant(tenant.id):
        members = {
            role.value: add_member(
                tenant=tenant, user=User.objects.create_user(f"{role}@{domain}"), role=role
            )
            for role in Role
        }
        key, _ = create_key(tenant=tenant, label=f"{tenant.slug} shared")
        member_key, _ = create_key(
            tenant=tenant, label=f"{tenant.slug} own", member=members["member"]
        )
        invitation, _ = invite(tenant=tenant, email=f"new@{domain}", role=Role.VIEWER)
        event = AuditEvent.objects.earliest("sequence")
        limit = create_limit(
            tenant=tenant,
            is_platform_set=False,
            scope_kind="key",
            scope_value="*",
            kind="requests",
            period="minute",
            amount=60,
        )
        receiver, _ = create_receiver(
            tenant=tenant, label="hook", channel="webhook", address=f"https://{domain}/hook"
        )
        registry = furnish_registry(tenant)
        provider = Provider.objects.get(pk=registry["provider_id"])
        registry |= furnish_logins(tenant, members["owner"].user, provider)
    with acting_as("command", None, "tests"), scopes.platform("tests"):
        platform_limit = create_limit(
            tenant=None,
            is_platform_set=True,
            scope_kind="model",
            scope_value=tenant.slug,
            kind="parallel",
            amount=6,
        )
        platform_receiver, _ = create_receiver(
            tenant=None, label=tenant.slug, channel="webhook", address=f"https://{domain}/ours"
        )
        alert(AlertKind.QUOTA, tenant_id=tenant.id, key="furnished", title="One", text="of each")
    return Home(
        tenant,
        members,
        key,
        member_key,
        invitation,
        event,
        limit,
        platform_limit,
        receiver,
        platform_receiver,
        registry,
    )


def signed_in(user: User) -> Api:
    client = Client()
    client.force_login(user)
    return Api(client)


def with_key(
    tenant: Tenant,
    scopes_: list[str] | None = None,
    member: Membership | None = None,
    **limits: Any,
) -> Api:
    with acting_as("command", None, "tests"), scopes.tenant(tenant.id):
        _, secret = create_key(
            tenant=tenant,
            label="control",
            scopes=scopes_ if scopes_ is not None else ["manage"],
            member=member,
            **limits,
        )
    return Api(Client(), {"Authorization": f"Bearer {secret.reveal()}"})


@pytest.fixture
def home(tenant: Tenant) -> Home:
    return furnish(tenant)


@pytest.fixture
def elsewhere(other_tenant: Tenant) -> Home:
    return furnish(other_tenant)


@pytest.fixture
def as_staff(staff: User) -> Api:
    return signed_in(staff)


@pytest.fixture
def as_role(home: Home) -> Callable[[str], Api]:
    return lambda role: signed_in(home.members[role].user)


@pytest.fixture
def owner(home: Home) -> Api:
    return signed_in(home.members["owner"].user)


@pytest.fixture
def admin(home: Home) -> Api:
    return signed_in(home.members["admin"].user)


@pytest.fixture
def anonymous() -> Api:
    return Api(Client())


@pytest.fixture
def everything() -> Callable[[], list[Any]]:
    """All that a request may change."""

    def rows() -> list[Any]:
        with scopes.platform("test"):
            # Using a key leaves its mark on it, and on nothing else.
            kept = [
                list(model._base_manager.order_by("pk").values())
                for model in (
                    *(Tenant, Membership, Invitation, AuditEvent, RememberedAnswer),
                    *(Limit, UsagePolicy, Alert, AlertDelivery, AlertReceiver),
                    *apps.get_app_config("providers").get_models(),
                )
            ]
            keys = list(ApiKey._base_manager.order_by("pk").values())
        for key in keys:
            key.pop("last_used_at")
        return [*kept, keys, list(User.objects.order_by("pk").values("pk", "email", "is_active"))]

    return rows

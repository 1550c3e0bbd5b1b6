"""The logins' part of the matrix of the control API, and a row of each kind for a tenant.

A login is its starter's, whatever anybody's role: the matrix meets 404 wherever the caller is
somebody else, and tests/controlplane/api/logins/test_logins.py what the starter meets.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.oauth.models import DeviceLogin
from tenants.members.models import Tenant, User
from tenants.vault import services as vault

NOT_MINE = {404: "who asks did not start it"}
NOT_A_PERSON = {**NOT_MINE, 403: "a login belongs to a person, and this key to none"}
OVER = {**NOT_A_PERSON, 409: "it is over"}
NO_TERMS = {404: "it is not theirs, or this provider's models have no terms"}

ROWS: dict[tuple[str, str], dict[str, Any]] = {
    ("api-logins", "get"): {"least": "anybody"},
    ("api-logins", "post"): {
        "least": "anybody",
        "status": 202,
        "body": {"provider": "nowhere", "login": "device"},
        "otherwise": NOT_A_PERSON,
    },
    ("api-login", "get"): {"least": "anybody", "otherwise": NOT_MINE},
    ("api-login-cancel", "post"): {"least": "anybody", "otherwise": NOT_A_PERSON},
    ("api-login-confirm", "post"): {"least": "anybody", "otherwise": OVER},
    ("api-login-disconnect", "post"): {"least": "anybody", "status": 204, "otherwise": OVER},
    ("api-login-code", "post"): {
        "least": "anybody",
        "body": {"code": "a#b"},
        "otherwise": OVER,
    },
    ("api-connections", "get"): {"least": "anybody"},
    ("api-connection", "get"): {"least": "anybody", "otherwise": NOT_MINE},
    ("api-connection-disconnect", "post"): {
        "least": "anybody",
        "status": 204,
        "otherwise": NOT_A_PERSON,
    },
    ("api-connection-models", "get"): {"least": "anybody", "otherwise": NOT_MINE},
    ("api-connection-models-accept", "post"): {
        "least": "anybody",
        "body": {"model": "sim-claude"},
        "otherwise": {**NOT_A_PERSON, **NO_TERMS},
    },
}


def furnish_logins(tenant: Tenant, owner: User, provider: Provider) -> dict[str, Any]:
    """A login of the owner's that is over, and a connected account. In the tenant's scope."""
    now = clock.now()
    login = DeviceLogin.objects.create(
        tenant=tenant,
        provider=provider,
        started_by=owner,
        login="device",
        status=DeviceLogin.Status.CANCELLED,
        expires_at=now + timedelta(minutes=5),
        finished_at=now,
    )
    connection = Credential(
        tenant=tenant,
        provider=provider,
        label=f"{tenant.slug} login",
        kind=Credential.Kind.OAUTH,
        owner=owner,
        is_personal=True,
        # Switched off, so that no test asks the network.
        state=Credential.State.DISABLED,
    )
    vault.seal_into(connection, "sealed", Secret('{"access_token": "sk-login"}'))
    connection.save()
    return {"login_id": login.id, "connection_id": connection.id}

"""The operator's switch, and what a vendor's refusal says about a login."""

from __future__ import annotations

from typing import Any

import pytest

from providers.catalog.models import Provider
from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential
from providers.oauth import services
from providers.oauth.errors import SharingForbidden
from providers.oauth.flows.login import BadLoginSettings
from providers.oauth.models import LoginSettings
from providers.oauth.refresh import LoginUnusable, ensure_fresh
from providers.oauth.switch import set_logins
from providers.oauth.verdicts import note, verdict_of
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion
from tests.providers.oauth.conftest import Desk

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def turn(desk: Desk, *, is_on: bool, **values: Any) -> LoginSettings:
    return set_logins(LoginSettings.objects.get(), is_on=is_on, now=desk.clock.now(), **values)


def test_connected_accounts_stop_and_serve_again_with_the_switch(desk: Desk) -> None:
    credential = desk.sign_in(desk.provider("kilo"), "device")
    turn(desk, is_on=False)
    with pytest.raises(LoginUnusable, match="switched the logins of this provider off"):
        ensure_fresh(credential.pk)
    turn(desk, is_on=True)
    assert ensure_fresh(credential.pk).token


@pytest.mark.parametrize("sharing", ["owner", "tenant", "platform"])
@pytest.mark.parametrize("whose", ["one's own", "a tenant's", "the platform's"])
def test_who_may_share_is_what_the_operator_recorded(desk: Desk, sharing: str, whose: str) -> None:
    provider = desk.provider("kilo")
    permission = "" if sharing == "owner" else "Contract 12, 2026-01."
    LoginSettings.objects.update(sharing=sharing, permission=permission)
    levels = ["owner", "tenant", "platform"]
    needed = {"one's own": "owner", "a tenant's": "tenant", "the platform's": "platform"}[whose]

    def start() -> str:
        login = services.begin(
            user=desk.user,
            tenant=None if whose == "the platform's" else desk.tenant,
            provider=provider,
            way="device",
            is_personal=whose == "one's own",
            now=desk.clock.now(),
        )
        return str(login.status)

    if levels.index(sharing) >= levels.index(needed):
        assert start() == "pending"
    else:
        with pytest.raises(SharingForbidden, match="permits sharing it"):
            start()


def test_shared_accounts_stop_with_the_permission(desk: Desk) -> None:
    provider = desk.provider("kilo")
    permitted = {"sharing": "tenant", "permission": "Contract 12, 2026-01."}
    turn(desk, is_on=True, **permitted)
    mine = desk.sign_in(provider, "device")
    shared = desk.sign_in(provider, "device", account="ben", is_personal=False)
    turn(desk, is_on=True, sharing="owner")
    assert ensure_fresh(mine.pk).token
    with pytest.raises(LoginUnusable, match="no longer permits sharing"):
        ensure_fresh(shared.pk)
    # Off and on again does not bring back what is not permitted.
    turn(desk, is_on=False)
    turn(desk, is_on=True)
    assert ensure_fresh(mine.pk).token
    with pytest.raises(LoginUnusable, match="no longer permits sharing"):
        ensure_fresh(shared.pk)
    turn(desk, is_on=True, **permitted)
    assert ensure_fresh(shared.pk).token


def test_what_somebody_disabled_stays_so(desk: Desk) -> None:
    credential = desk.sign_in(desk.provider("kilo"), "device")
    Credential.objects.update(state=Credential.State.DISABLED, state_reason="")
    turn(desk, is_on=False)
    turn(desk, is_on=True)
    credential.refresh_from_db()
    assert credential.state == Credential.State.DISABLED


def test_each_turn_is_audited_and_none_overwrites_another(desk: Desk) -> None:
    desk.provider("kilo")
    seen = LoginSettings.objects.get().version
    turn(desk, is_on=False, expected_version=seen)
    with pytest.raises(StaleVersion):
        turn(desk, is_on=True, expected_version=seen)
    event = AuditEvent.objects.get(action="login_settings.changed")
    assert '"is_on":false' in str(event.after_json).replace(" ", "").lower().replace("'", '"')


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"catalog_id": "nowhere"}, "no provider"),
        ({"catalog_id": "openai"}, "no login to switch on"),
        ({}, "not both"),
    ],
    ids=["unknown", "without logins", "nothing"],
)
def test_what_cannot_be_switched_on(desk: Desk, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadLoginSettings, match=sentence):
        set_logins(is_on=True, now=desk.clock.now(), **values)


def test_a_tenants_own_address_gets_no_login_of_the_catalogs(desk: Desk) -> None:
    """Or its members' tokens would go wherever the registration says."""
    from providers.catalog.services import register
    from providers.oauth.errors import LoginsOff

    desk.provider("kilo")
    plain = register(slug="kilo", catalog_id="kilo", tenant_id=desk.tenant.pk)
    Provider.objects.filter(pk=plain.pk).update(base_url="https://mine.example.com")
    plain.refresh_from_db()
    with pytest.raises(LoginsOff):
        desk.begin(plain, "device")
    Provider.objects.filter(pk=plain.pk).update(base_url="")
    plain.refresh_from_db()
    assert desk.begin(plain, "device").status == "pending"


@pytest.mark.parametrize(
    ("status", "body", "action"),
    [
        (401, b"", "renew"),
        (403, b'{"message":"The bearer token included in the request is invalid."}', "renew"),
        (403, b'{"reason":"TEMPORARILY_SUSPENDED"}', "suspended"),
        (403, b'{"message":"User is not authorized"}', "none"),
        (403, b"This credential is only authorized for use with Claude Code", "refused"),
        (401, b"account_deactivated", "suspended"),
        (403, bytes(range(256)), "none"),
    ],
    ids=range(7),
)
def test_verdicts(status: int, body: bytes, action: str) -> None:
    assert verdict_of(status, body).action == action


def test_a_suspended_account_is_used_no_more(desk: Desk) -> None:
    credential = desk.sign_in(desk.provider("kiro"), "google")
    note(str(credential.pk), verdict_of(403, b'{"reason":"TEMPORARILY_SUSPENDED"}'))
    credential.refresh_from_db()
    assert credential.state == Credential.State.SUSPENDED
    with pytest.raises(LoginUnusable, match="suspended"):
        ensure_fresh(credential.pk)
    assert CredentialEvent.objects.filter(state="suspended").exists()

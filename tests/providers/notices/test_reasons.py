"""What raises an alert: credentials, vendors' quotas, providers, the nightly checks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.catalog import services as registry
from providers.catalog.models import Provider
from providers.credentials import alerts
from providers.credentials.models import Credential
from providers.credentials.services import refuse_credential
from providers.credentials.services import store_key as store
from providers.health.alerts import tell_if_down
from providers.health.models import Finding, ProviderCheck
from providers.notices import tasks
from providers.oauth.states import change_state
from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert
from tenants.audit import tasks as audit_tasks
from tenants.audit import verify as audit_verify
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tenants.usage import tasks as usage_tasks
from tenants.usage import verify as usage_verify

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def acme(tenant: Tenant) -> Provider:
    return registry.register(
        slug="acme-llm",
        tenant_id=tenant.id,
        protocol="openai-completions",
        base_url="https://llm.example.com/v1",
    )


@pytest.fixture
def credential(acme: Provider) -> Credential:
    return store(provider=acme, label="one", secret=Secret("sk-not-in-any-alert"))


def raised(kind: AlertKind) -> list[Alert]:
    found = list(Alert.objects.filter(kind=kind).order_by("created_at", "pk"))
    assert not any("sk-not-in-any-alert" in f"{one.text}{one.facts}" for one in found)
    return found


def test_a_credential_that_only_a_person_can_mend(
    credential: Credential, tenant: Tenant, user: User
) -> None:
    Credential.objects.update(owner=user)
    credential.refresh_from_db()
    change_state(credential, "cooling", "Busy.", now=NOW)
    assert raised(AlertKind.NEEDS_LOGIN) == []
    for hours in (0, 1, 30):
        at = NOW + timedelta(hours=hours)
        change_state(credential, "needs_login", "The vendor ended it.", now=at)
        change_state(credential, "active", "", now=at)
    told = raised(AlertKind.NEEDS_LOGIN)
    assert len(told) == 2, "at most once a day"
    assert told[0].title == "Needs a new login: “one” of acme-llm"
    assert "The vendor ended it." in told[0].text
    assert (told[0].tenant_id, told[0].person_id) == (tenant.id, user.pk)


def test_a_key_that_is_refused(credential: Credential) -> None:
    refuse_credential(str(credential.pk), version=credential.version, reason="It said 401.")
    (told,) = raised(AlertKind.NEEDS_LOGIN)
    assert told.facts["reason"] == "It said 401."


def test_a_vendors_quota_once_for_each_of_its_periods(credential: Credential) -> None:
    resets_at = NOW + timedelta(hours=5)
    assert alerts.used_up(credential, "5 hours", resets_at, now=NOW)
    assert not alerts.used_up(credential, "5 hours", resets_at, now=NOW + timedelta(hours=1))
    assert alerts.used_up(credential, "weekly", resets_at, now=NOW)
    assert alerts.used_up(credential, "5 hours", resets_at + timedelta(hours=5), now=resets_at)


def test_what_ends_and_is_not_renewed(credential: Credential) -> None:
    def ends(in_days: float, **values: Any) -> int:
        now = clock.now()
        Credential.objects.update(expires_at=now + timedelta(days=in_days), **values)
        return alerts.find_expiring(now=now)

    assert ends(8) == 0
    assert ends(-1) == 0
    assert ends(5, refresh_at=clock.now()) == 0, "it is renewed by itself"
    assert ends(5, refresh_at=None, state="disabled") == 0
    assert ends(5, state="active") == 1
    tasks.look_for_expiring()
    assert len(raised(AlertKind.EXPIRING)) == 1


def test_a_provider_is_down_at_the_second_failure_and_told_of_once(acme: Provider) -> None:
    def check(finding: Finding, minute: int) -> bool:
        at = NOW + timedelta(minutes=minute)
        ProviderCheck.objects.create(
            provider=acme,
            at=at,
            is_ok=finding is Finding.WORKS,
            finding=finding,
            sentence="It says so.",
        )
        return tell_if_down(acme, now=at)

    said = [
        check(finding, minute)
        for minute, finding in enumerate(
            [
                *(Finding.NO_CREDENTIAL, Finding.NO_CREDENTIAL, Finding.WORKS),
                *(Finding.TIMEOUT, Finding.WORKS),
                *(Finding.TIMEOUT, Finding.UPSTREAM_ERROR, Finding.TIMEOUT),
                *(Finding.WORKS, Finding.TLS, Finding.TLS),
            ]
        )
    ]
    assert [minute for minute, is_told in enumerate(said) if is_told] == [6, 10]
    first, second = raised(AlertKind.PROVIDER_DOWN)
    assert first.facts["since"] == (NOW + timedelta(minutes=5)).isoformat()
    assert second.title == "TLS failed: acme-llm"


def test_a_difference_in_the_ledger_or_the_audit_log_is_told_once_a_day() -> None:
    ledger = usage_verify.Report()
    ledger.add("acme #7", "Its content does not match its hash.")
    audit = audit_verify.Report()
    audit.add("acme", 7, "Its content does not match its hash.")
    with (
        mock.patch.object(usage_tasks, "verify", return_value=ledger),
        mock.patch.object(audit_verify, "verify", return_value=audit),
    ):
        for _ in range(2):
            usage_tasks.verify_ledger()
            audit_tasks.verify_all_chains()
    for kind in (AlertKind.LEDGER, AlertKind.AUDIT):
        days = {f"{one.created_at:%Y-%m-%d}" for one in raised(kind)}
        (told, *_) = raised(kind)
        assert len(raised(kind)) == len(days), "midnight may pass meanwhile"
        assert told.tenant_id is None
        assert "#7" in told.text

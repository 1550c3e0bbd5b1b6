"""Who receives alerts: made, changed, tried, removed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from controlplane.kit import clock
from tenants.alerts import receivers
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver
from tenants.alerts.services import alert
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion, StateConflict
from tenants.members.models import Membership, Tenant, User
from tenants.vault import services as vault

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

URL = "https://hooks.example.com/alerts?token=in-the-path"


def hook(tenant: Tenant | None, **values: Any) -> AlertReceiver:
    given = {"label": "hook", "channel": "webhook", "address": URL, **values}
    return receivers.create_receiver(tenant=tenant, **given)[0]


def sent_to(tenant: Tenant | None) -> list[tuple[str, str]]:
    rows = AlertDelivery.objects.filter(tenant=tenant)
    return sorted((row.channel, row.receiver.label if row.receiver else "") for row in rows)


def test_a_webhook_gets_a_secret_that_is_shown_once_and_kept_sealed(tenant: Tenant) -> None:
    row, secret = receivers.create_receiver(
        tenant=tenant, label="hook", channel="webhook", address=URL
    )
    assert secret is not None
    row = AlertReceiver.objects.get(pk=row.pk)
    assert secret.reveal().encode() not in bytes(row.sealed_secret)
    assert vault.unseal_from(row, "sealed_secret") == secret
    trail = AuditEvent.objects.get(action="alert_receiver.created")
    assert "in-the-path" not in trail.after_json
    assert receivers.create_receiver(tenant=tenant, label="mail", channel="email")[1] is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "javascript:alert(1)",
        "https://",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nHost: other",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://[::1/",
        "https://hooks.exämple.com/",
        "https://hooks.example.com/" + "a" * 500,
    ],
)
def test_an_address_is_a_whole_url(tenant: Tenant, address: str) -> None:
    with pytest.raises(ValidationError) as refused:
        hook(tenant, address=address)
    assert set(refused.value.message_dict) == {"address"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"label": "  "}, "label"),
        ({"channel": "pigeon"}, "channel"),
        ({"channel": "email", "address": "nobody"}, "address"),
        ({"kinds": ["test"]}, "kinds"),
        ({"kinds": ["weather"]}, "kinds"),
    ],
)
def test_what_means_nothing_is_refused(tenant: Tenant, values: Any, field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        hook(tenant, **values)
    assert set(refused.value.message_dict) == {field}


def test_names_are_unique_where_they_are_read(tenant: Tenant, other_tenant: Tenant) -> None:
    hook(tenant)
    hook(other_tenant)
    hook(None)
    for owner in (tenant, None):
        with pytest.raises(StateConflict):
            hook(owner)


def test_there_are_only_so_many(tenant: Tenant) -> None:
    for number in range(receivers.MOST_RECEIVERS):
        hook(tenant, label=f"hook {number}")
    with pytest.raises(StateConflict, match="20 receivers"):
        hook(tenant, label="one more")


def test_who_made_no_receiver_gets_letters_and_who_made_one_has_chosen(tenant: Tenant) -> None:
    def tell(kind: AlertKind, key: str) -> list[tuple[str, str]]:
        AlertDelivery.objects.all().delete()
        assert alert(kind, tenant_id=tenant.id, key=key, title="t", text="t")
        return sent_to(tenant)

    assert tell(AlertKind.QUOTA, "a") == [("email", "")]
    hook(tenant, kinds=["quota"])
    assert tell(AlertKind.QUOTA, "b") == [("email", ""), ("webhook", "hook")]
    assert tell(AlertKind.LEDGER, "c") == [("email", "")]
    mail, _ = receivers.create_receiver(
        tenant=tenant, label="mail", channel="email", kinds=["ledger"]
    )
    assert tell(AlertKind.QUOTA, "d") == [("webhook", "hook")]
    assert tell(AlertKind.LEDGER, "e") == [("email", "mail")]
    receivers.update_receiver(receiver=mail, version=1, is_on=False)
    assert tell(AlertKind.LEDGER, "f") == []


def test_an_alert_is_its_tenants_alone_and_comes_once(tenant: Tenant, other_tenant: Tenant) -> None:
    for owner in (tenant, other_tenant, None):
        hook(owner)
    for _ in range(2):
        alert(AlertKind.QUOTA, tenant_id=tenant.id, key="a", title="t", text="t")
    assert alert(AlertKind.QUOTA, tenant_id=None, key="a", title="t", text="t")
    assert not alert(AlertKind.QUOTA, tenant_id=None, key="a", title="t", text="t")
    assert alert(AlertKind.RUNWAY, tenant_id=None, key="a", title="t", text="t")
    assert Alert.objects.filter(tenant=tenant).count() == 1
    assert sent_to(tenant) == [("email", ""), ("webhook", "hook")]
    assert sent_to(other_tenant) == []


def test_a_new_secret_leaves_the_old_one_for_a_while(tenant: Tenant) -> None:
    row, old = receivers.create_receiver(
        tenant=tenant, label="hook", channel="webhook", address=URL
    )
    now = clock.now()
    row, new = receivers.rotate_secret(receiver=row, version=1, overlap=timedelta(hours=1), now=now)
    assert new != old
    assert (vault.unseal_from(row, "sealed_secret"), row.version) == (new, 2)
    assert vault.unseal_from(row, "sealed_previous") == old
    assert row.previous_until == now + timedelta(hours=1)
    with pytest.raises(StaleVersion):
        receivers.rotate_secret(receiver=row, version=1, overlap=timedelta(0))
    row, _ = receivers.rotate_secret(receiver=row, version=2, overlap=timedelta(0))
    assert (row.sealed_previous, row.previous_until) == (None, None)


def test_only_webhooks_have_secrets(tenant: Tenant) -> None:
    mail, _ = receivers.create_receiver(tenant=tenant, label="mail", channel="email")
    with pytest.raises(StateConflict):
        receivers.rotate_secret(receiver=mail, version=1, overlap=timedelta(0))


def test_a_change_names_what_it_saw(tenant: Tenant) -> None:
    row = hook(tenant)
    changed = receivers.update_receiver(receiver=row, version=1, kinds=["quota", "quota"])
    assert (changed.kinds, changed.version) == (["quota"], 2)
    for act in (
        lambda: receivers.update_receiver(receiver=row, version=1, label="other"),
        lambda: receivers.remove_receiver(receiver=row, version=1),
    ):
        with pytest.raises(StaleVersion):
            act()
    receivers.remove_receiver(receiver=changed, version=2)
    assert not AlertReceiver.objects.exists()
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"alert_receiver.changed", "alert_receiver.removed"} <= actions


def test_a_test_goes_to_one_receiver_and_not_at_every_click(tenant: Tenant) -> None:
    hook(tenant, label="another")
    row = hook(tenant)
    now = clock.now()
    delivery = receivers.send_test(receiver=row, now=now)
    assert [one.pk for one in AlertDelivery.objects.all()] == [delivery.pk]
    with pytest.raises(StateConflict, match="just now"):
        receivers.send_test(receiver=row, now=now + timedelta(seconds=5))
    receivers.send_test(receiver=row, now=now + timedelta(seconds=20))


def test_the_owner_of_a_login_hears_of_it_too(tenant: Tenant, mailoutbox: list[Any]) -> None:
    from django.conf import settings as live
    from django.test import override_settings

    from tenants.alerts.letters import send_letter

    owner = User.objects.create_user("owner@acme.test")
    Membership.objects.create(tenant=tenant, user=owner, role=Membership.Role.OWNER)
    person = User.objects.create_user("person@acme.test")
    alert(
        AlertKind.NEEDS_LOGIN,
        tenant_id=tenant.id,
        key="a",
        title="Two\nlines",
        text="Sign in again.",
        person_id=person.pk,
    )
    delivery = AlertDelivery.objects.get()
    assert not live.EMAIL_HOST
    assert "EMAIL_HOST" in send_letter(delivery)
    with override_settings(EMAIL_HOST="mail.test"):
        assert send_letter(delivery) == ""
    (letter,) = mailoutbox
    assert letter.to == ["owner@acme.test", "person@acme.test"]
    assert letter.subject == "Two lines"
    assert "Tenant: acme" in letter.body

"""Alerts and their receivers in the console."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver
from tenants.alerts.services import alert
from tenants.members.models import Tenant, User

pytestmark = pytest.mark.django_db

FORM = {
    "label": "on call",
    "channel": "webhook",
    "address": "https://hooks.example.com/llm",
    "kinds": ["needs_login", "ledger"],
    "is_on": "on",
}


@pytest.fixture
def console(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def receiver() -> AlertReceiver:
    with scope.platform("tests"):
        return AlertReceiver.objects.get()


def page(view: str, *args: object) -> str:
    return reverse(f"admin:tenants_alertreceiver_{view}", args=args)


@pytest.fixture
def hook(console: Client, tenant: Tenant) -> AlertReceiver:
    answer = console.post(page("add"), {**FORM, "tenant": str(tenant.pk)})
    assert "whsec_" in answer.content.decode()
    return receiver()


def test_the_secret_is_shown_once(console: Client, hook: AlertReceiver) -> None:
    assert (hook.label, hook.kinds) == ("on call", ["ledger", "needs_login"])
    for path in (page("change", hook.pk), page("changelist")):
        text = console.get(path).content.decode()
        assert "on call" in text
        assert "whsec_" not in text
    answer = console.post(page("rotate", hook.pk), {"overlap_hours": "24"})
    (secret,) = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode()))
    assert secret not in console.get(page("change", hook.pk)).content.decode()
    assert "the secret before it too" in console.get(page("change", hook.pk)).content.decode()


def test_what_is_wrong_is_said_on_the_page(console: Client) -> None:
    answer = console.post(page("add"), {**FORM, "address": "hooks.example.com"}, follow=True)
    assert "Give the whole address" in answer.content.decode()
    with scope.platform("tests"):
        assert not AlertReceiver.objects.exists()


def test_a_test_asks_first_and_shows_how_it_went(console: Client, hook: AlertReceiver) -> None:
    console.get(page("test", hook.pk))
    with scope.platform("tests"):
        assert not AlertDelivery.objects.exists()
    answer = console.post(page("test", hook.pk), {"confirmed": "yes"}, follow=True)
    text = answer.content.decode()
    assert "A test is on its way" in text
    assert "A test for “on call”" in text
    answer = console.post(page("test", hook.pk), {"confirmed": "yes"}, follow=True)
    assert "just now" in answer.content.decode()


def test_it_is_switched_off_and_removed(console: Client, hook: AlertReceiver) -> None:
    changes = {**FORM, "seen_version": hook.version}
    del changes["is_on"]
    console.post(page("change", hook.pk), changes)
    hook = receiver()
    assert not hook.is_on
    console.post(page("remove", hook.pk), {"confirmed": "yes"})
    with scope.platform("tests"):
        assert not AlertReceiver.objects.exists()


def test_alerts_are_listed_with_their_deliveries(
    console: Client, hook: AlertReceiver, tenant: Tenant
) -> None:
    with scope.platform("tests"):
        alert(
            AlertKind.LEDGER,
            tenant_id=tenant.pk,
            key="a",
            title="<b>Seven</b>",
            text="It does not add up.",
            facts={"found": "<i>"},
        )
        made = Alert.objects.get()
        AlertDelivery.objects.filter(receiver=hook).update(
            state="given_up", last_error="<u>500</u>"
        )
    listed = console.get(reverse("admin:tenants_alert_changelist") + "?delivery=given_up")
    text = listed.content.decode()
    assert "&lt;b&gt;Seven&lt;/b&gt;" in text
    assert "1 given up" in text
    assert "1 on its way" in text
    shown = console.get(reverse("admin:tenants_alert_change", args=[made.pk])).content.decode()
    assert "It does not add up." in shown
    assert "&lt;u&gt;500&lt;/u&gt;" in shown
    assert "Letter to the admins and owners" in shown
    none = console.get(reverse("admin:tenants_alert_changelist") + "?kind=quota")
    assert "Seven" not in none.content.decode()

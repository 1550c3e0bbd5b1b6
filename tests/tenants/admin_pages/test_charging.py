"""What a tenant is charged, set in the console."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.console.price_list_field import PriceListField
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant, User
from tenants.quotas.models import UsagePolicy
from tenants.quotas.services import change_policy, policy_of

pytestmark = pytest.mark.django_db

ADD = "admin:tenants_usagepolicy_add"
CHANGE = "admin:tenants_usagepolicy_change"
WANTED = {"reservation": "learned", "durability": "relaxed", "unpriced": "refuse"}


@pytest.fixture
def client(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def policies() -> list[UsagePolicy]:
    with scope.platform("tests"):
        return list(UsagePolicy.objects.all())


def test_a_policy_is_made_and_changed_in_per_cent(client: Client, tenant: Tenant) -> None:
    wanted = {**WANTED, "tenant": str(tenant.pk), "per_cent": "12.5"}
    assert client.post(reverse(ADD), wanted).status_code == 302
    (made,) = policies()
    assert (made.mark_up, made.reservation, made.durability, made.unpriced) == (
        *(1250, "learned", "relaxed", "refuse"),
    )
    where = reverse(CHANGE, args=[made.pk])
    assert b"12.5" in client.get(where).content
    assert (
        b"the provider&#x27;s price +12.5 %"
        in client.get(reverse("admin:tenants_usagepolicy_changelist")).content
    )
    changed = {**WANTED, "per_cent": "-10", "seen_version": str(made.version)}
    assert client.post(where, changed).status_code == 302
    (now,) = policies()
    assert (now.mark_up, now.version) == (-1000, made.version + 1)
    # Somebody else was first.
    assert "load" in client.post(where, changed, follow=True).content.decode()
    (still,) = policies()
    assert still.version == now.version
    with scope.platform("tests"):
        assert AuditEvent.objects.filter(action="usage_policy.changed").count() == 2


@pytest.mark.parametrize("per_cent", ["", "-101", "1001", "1.234", "much"])
def test_a_mark_up_that_makes_no_sense_is_refused(
    client: Client, tenant: Tenant, per_cent: str
) -> None:
    wanted = {**WANTED, "tenant": str(tenant.pk), "per_cent": per_cent}
    assert client.post(reverse(ADD), wanted).status_code == 200
    assert policies() == []


PRICE = {
    "model": "gpt-*",
    "effective_from": "2026-01-01T00:00:00+00:00",
    "price": {"input": "1", "output": "2"},
}
TIERED = {
    "model": "claude-9",
    "effective_from": "2026-02-01T12:30:00+00:00",
    "price": {
        "input": "1",
        "output": "2",
        "tiers": [
            {
                "above_input_tokens": 1000,
                "input": "2",
                "output": "3",
                "cache_read": "",
                "cache_write": "",
                "cache_write_1h": "",
            }
        ],
    },
}


def test_a_second_policy_is_refused(client: Client, tenant: Tenant) -> None:
    with scope.platform("tests"), acting_as("command", None, "tests"):
        change_policy(tenant=tenant, version=1, mark_up=5)
    answer = client.post(reverse(ADD), {**WANTED, "tenant": str(tenant.pk), "per_cent": "0"})
    assert b"There is a policy for it already" in answer.content


def test_a_price_list_is_edited_as_lines(client: Client, tenant: Tenant) -> None:
    with scope.platform("tests"), acting_as("command", None, "tests"):
        made = change_policy(tenant=tenant, version=1, price_list=[PRICE, TIERED])
    where = reverse(CHANGE, args=[made.pk])
    shown = client.get(where).context["adminform"].form["prices"].value()
    text = PriceListField().prepare_value(shown)
    assert text.splitlines()[0] == "gpt-* 2026-01-01 input=1 output=2"
    assert text.splitlines()[1].startswith("claude-9 2026-02-01T12:30:00 {")
    # Sent back as it was shown, it stays as it was.
    wanted = {**WANTED, "per_cent": "5", "seen_version": str(made.version), "prices": text}
    assert client.post(where, wanted).status_code == 302
    assert policies()[0].price_list == [PRICE, TIERED]
    wanted["seen_version"] = str(made.version + 1)
    wanted["prices"] = "gpt-* 2026-01-01 input=1 output=2\r\n\r\n* 2026-03-01 input=3 output=4 "
    assert client.post(where, wanted).status_code == 302
    assert [row["model"] for row in policies()[0].price_list] == ["gpt-*", "*"]
    listed = client.get(reverse("admin:tenants_usagepolicy_changelist")).content
    assert b"2 agreed prices, else" in listed


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ("gpt-*", "Line 1: write a model, a day and a price"),
        ("gpt-* 2026-01-01", "Line 1: write a model"),
        ("a 2026-01-01 input=1 output=2\nb soon input=1 output=2", "Line 2: &#x27;soon&#x27; is"),
        ("a 2026-01-01 input output=2", "Line 1: &#x27;input&#x27; names no amount"),
        ("a 2026-01-01 {", "Line 1: the price is no JSON object"),
        ("a 2026-01-01 inptu=1 output=2", "a: "),
        ("a 2026-01-01 input=-1 output=2", "a: "),
        ("a 2026-01-01 input=1", "a: "),
        ("a? 2026-01-01 input=1 output=2", "Only * has a meaning here"),
        ("a 2026-01-01 input=1 output=2\n" * 2, "begin at the same moment"),
        ("a 2026-01-01 input=1 output=2\n" * 101, "at most 100 prices"),
    ],
)
def test_a_line_that_is_no_price_is_named(
    client: Client, tenant: Tenant, prices: str, says: str
) -> None:
    wanted = {**WANTED, "tenant": str(tenant.pk), "per_cent": "0", "prices": prices}
    answer = client.post(reverse(ADD), wanted)
    assert answer.status_code == 200
    assert says in answer.content.decode()
    assert policies() == []


def test_a_policy_for_everybody_else(client: Client, tenant: Tenant) -> None:
    prices = "gpt-* 2026-01-01 input=1 output=2"
    wanted = {**WANTED, "tenant": "", "per_cent": "20", "prices": prices}
    assert client.post(reverse(ADD), wanted).status_code == 302
    assert b"everybody else" in client.get(reverse("admin:tenants_usagepolicy_changelist")).content
    assert b"There is a policy for it already" in client.post(reverse(ADD), wanted).content
    (made,) = policies()
    assert made.tenant_id is None
    changed = {**WANTED, "per_cent": "30", "seen_version": str(made.version), "prices": prices}
    assert client.post(reverse(CHANGE, args=[made.pk]), changed).status_code == 302
    with scope.tenant(tenant.pk):
        inherited = policy_of(tenant)
    assert (inherited.mark_up, inherited.reservation, inherited.price_list) == (3000, "learned", [])

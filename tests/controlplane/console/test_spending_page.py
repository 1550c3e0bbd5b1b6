"""Who spent what on what, what moved and how long it lasts, as platform staff see it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant, User
from tenants.quotas.models import Counter, Limit
from tenants.quotas.services import create_limit
from tenants.quotas.snapshot import rule_of
from tests.ledger import spend

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

DOLLAR = 1_000_000_000


@pytest.fixture
def console(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def page(console: Client, **query: str) -> str:
    answer = console.get(reverse("admin:tenants_usageevent_spending"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_all_tenants_and_then_one(console: Client, tenant: Tenant, other_tenant: Tenant) -> None:
    spend(tenant, 3 * DOLLAR, model="sim-gpt")
    spend(tenant, None, model="sim-dear")
    spend(other_tenant, DOLLAR, model="theirs")
    everybody = page(console)
    for text in ("By tenant", "$4.00", "acme", other_tenant.slug, "$3.00", "Price unknown"):
        assert text in everybody
    assert "Choose a tenant to see its errors" in everybody
    one = page(console, tenant="acme")
    assert "By model" in one
    assert "sim-gpt" in one
    assert "theirs" not in one
    assert f"/api/v1/tenants/{tenant.id}/usage/export?since=" in one
    assert "There is no such tenant" in page(console, tenant="nobody\0")


def test_keys_are_called_by_their_names(console: Client, tenant: Tenant) -> None:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        key, _ = create_key(tenant=tenant, label="Build server")
    spend(tenant, DOLLAR, key_id=key.pk)
    spend(tenant, DOLLAR)
    shown = page(console, by="key")
    assert "Build server" in shown
    assert str(key.pk) not in shown


@pytest.mark.parametrize("period", ["7", "30", "90", "this-month", "last-month", "for ever"])
@pytest.mark.parametrize("by", ["tenant", "key", "member", "model", "provider", "day", "colour"])
def test_every_choice_answers(console: Client, tenant: Tenant, by: str, period: str) -> None:
    assert "Nothing was used in this time." in page(console, by=by, period=period)


def test_what_moved_and_what_failed(console: Client, tenant: Tenant) -> None:
    spend(tenant, 5 * DOLLAR, model="left", at=clock.now() - timedelta(days=10))
    spend(tenant, 2 * DOLLAR, model="new", error="upstream_overloaded")
    shown = page(console, tenant="acme", period="7")
    assert "−$5.00" in shown
    assert "+$2.00" in shown
    assert "upstream_overloaded" in shown
    assert "100.0 %" in shown


def test_a_budget_says_how_long_it_lasts(console: Client, tenant: Tenant) -> None:
    with acting_as("command", None, "tests"), scope.tenant(tenant.id):
        limit = create_limit(
            tenant=tenant,
            scope_kind="tenant",
            kind="money",
            period="total",
            amount=10 * DOLLAR,
            mode=Limit.Mode.ENFORCE,
            is_platform_set=True,
        )
    rule = rule_of(limit, "UTC")
    (bucket,) = rule.slot(clock.now().timestamp()).buckets
    Counter.objects.create(key=f"{rule.id}::{bucket}", settled=9 * DOLLAR, ends_at=2**40)
    shown = page(console, tenant="acme")
    assert "90.0 %" in shown
    assert "lasts until" in shown
    assert "Choose a tenant to see its own" in page(console)


def test_the_table_alone_runs_nothing_in_a_spreadsheet(console: Client, tenant: Tenant) -> None:
    spend(tenant, DOLLAR, model="=1+1")
    answer = console.get(
        reverse("admin:tenants_usageevent_spending"), {"tenant": "acme", "form": "csv"}
    )
    head, row = answer.content.decode().splitlines()
    assert answer["Content-Type"].startswith("text/csv")
    assert head.startswith("model,name,requests,errors")
    assert row.startswith("'=1+1,'=1+1,1,0")


def test_more_rows_make_no_more_queries(console: Client, tenant: Tenant) -> None:
    counts = []
    for names in (("a", "b"), ("c", "d", "e", "f", "g")):
        for name in names:
            spend(tenant, DOLLAR, model=name)
        with CaptureQueriesContext(connection) as captured:
            page(console, tenant="acme")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 16, counts


def test_only_platform_staff_see_it(client: Client, tenant: Tenant) -> None:
    answer = client.get(reverse("admin:tenants_usageevent_spending"))
    assert answer.status_code == 302

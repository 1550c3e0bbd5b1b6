"""The statement to print, and the receipt that proves it: on its page and at the command line."""

from __future__ import annotations

import io
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from tenants import scope
from tenants.members.models import Tenant, User
from tenants.usage.models import UsageEvent
from tests.ledger import spend

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture
def console(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def page(console: Client, **query: str) -> str:
    answer = console.get(reverse("admin:tenants_usageevent_statement"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def receipt_of(tenant: Tenant) -> str:
    with scope.tenant(tenant.id):
        last = UsageEvent.objects.latest("sequence")
    return f"{last.sequence} {last.hash}"


def rewrite(tenant: Tenant) -> None:
    """As somebody with the database's own keys would do it."""
    migration = import_module("tenants.migrations.0005_ledger_append_only")
    editor = SimpleNamespace(connection=connection)
    migration.allow_changes(None, editor)
    try:
        with scope.platform("tests"), connection.cursor() as cursor:
            cursor.execute(
                "UPDATE tenants_usageevent SET charge_nanos = 1"
                " WHERE sequence = 1 AND tenant_id = %s",
                [tenant.id if connection.vendor == "postgresql" else tenant.id.hex],
            )
    finally:
        migration.refuse_changes(None, editor)


def check(tenant: Tenant, receipt: str) -> str:
    out = io.StringIO()
    arguments = ["receipt", "--tenant", tenant.slug, *receipt.split()]
    call_command("ledger", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_it_shows_what_was_charged_with_its_receipt(
    console: Client, tenant: Tenant, other_tenant: Tenant
) -> None:
    spend(tenant, 2_500_000_000, 1_000_000_000, model="sim-gpt")
    spend(tenant, None, model="sim-dear")
    spend(other_tenant, 9_000_000_000, model="theirs")
    shown = page(console, tenant="acme")
    assert "Acme" in shown
    for text in ("sim-gpt", "$3.50", "sim-dear", "1, about", receipt_of(tenant)):
        assert text in shown
    assert "theirs" not in shown
    assert 'class="panel printed"' in shown
    assert "Nothing was used" in page(console, tenant="acme", month="2020-01")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, "Monthly statement"),
        ({"tenant": "nobody"}, "There is no such tenant"),
        ({"tenant": "a\0"}, "There is no such tenant"),
        ({"tenant": "acme", "month": "2026-13"}, "Give a month"),
        ({"tenant": "acme", "month": "٢٠٢٦-١١"}, "Give a month"),
        ({"tenant": "acme", "receipt": "1 0"}, "A receipt is a number and"),
        ({"tenant": "acme", "receipt": "9 " + "0" * 64}, "ends before event 9"),
        ({"tenant": "acme", "receipt": "1 " + "0" * 64}, "was rewritten"),
    ],
)
def test_whatever_is_asked_is_answered(
    console: Client, tenant: Tenant, query: dict[str, str], says: str
) -> None:
    spend(tenant, 5)
    assert says in page(console, **query)


def test_a_receipt_holds_while_the_ledger_grows(console: Client, tenant: Tenant) -> None:
    spend(tenant, 5)
    receipt = receipt_of(tenant)
    spend(tenant, 6, 7)
    assert "The receipt holds" in page(console, tenant="acme", receipt=receipt)
    assert "The receipt holds" in check(tenant, receipt)
    assert "The receipt holds" in check(tenant, receipt.upper().replace(" ", ":"))


def test_rewritten_history_breaks_it(console: Client, tenant: Tenant) -> None:
    spend(tenant, 5)
    of_the_first = receipt_of(tenant)
    spend(tenant, 6)
    of_the_second = receipt_of(tenant)
    rewrite(tenant)
    assert "does not match its own hash" in page(console, tenant="acme", receipt=of_the_first)
    with pytest.raises(CommandError, match="does not hold"):
        check(tenant, of_the_first)
    # What was rewritten lies before it: only the walk over the whole chain shows that.
    with pytest.raises(CommandError, match="does not add up"):
        check(tenant, of_the_second)


def test_what_is_no_receipt_is_refused(tenant: Tenant) -> None:
    with pytest.raises(CommandError, match="A receipt is"):
        check(tenant, "12 abc")

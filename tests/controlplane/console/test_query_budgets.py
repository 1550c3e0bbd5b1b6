"""How many queries each page makes, recorded in query_budgets.json.

More than recorded, or more with more rows, fails. Fewer fails too, so that a page that got
better stays better: write the new numbers with `UPDATE_QUERY_BUDGETS=1 pytest <this file>`.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.keys import services as keys
from tenants.keys.models import ApiKey
from tenants.members import people
from tenants.members import services as members
from tenants.members.invitations import invite
from tenants.members.models import Membership, Tenant, User

BUDGETS = Path(__file__).with_name("query_budgets.json")


def furnish(count: int, staff: User) -> dict[str, str]:
    """`count` tenants, people, members of the first tenant and keys. Gives the pages to open."""
    with acting_as("user", staff.pk, staff.email), scope.platform("test"):
        for number in range(count):
            tenant = members.create_tenant(slug=f"tenant-{number}", name="A tenant")
            person, _ = people.add_person(email=f"person-{number}@a.test")
            first = Tenant.objects.get(slug="tenant-0")
            members.add_member(tenant=first, user=person, role=Membership.Role.VIEWER)
            old, _ = keys.create_key(tenant=tenant, label="key")
            keys.rotate_key(key=old, overlap_until=clock.now() + timedelta(days=1))
        rows = {
            "tenants_tenant": Tenant.objects.get(slug="tenant-0").pk,
            "tenants_user": User.objects.get(email="person-0@a.test").pk,
            "tenants_apikey": ApiKey.objects.filter(rotated_at__isnull=False).earliest("pk").pk,
            "tenants_invitation": invite(tenant=first, email="new@a.test", role="viewer")[0].pk,
            "tenants_auditevent": AuditEvent.objects.earliest("pk").pk,
        }
    pages = {"index": reverse("admin:index"), "account": reverse("mfa_index")}
    for page, row in rows.items():
        pages[f"{page} list"] = reverse(f"admin:{page}_changelist")
        pages[f"{page} search"] = reverse(f"admin:{page}_changelist") + "?q=a"
        pages[f"{page} form"] = reverse(f"admin:{page}_change", args=[row])
    for page in ("tenants_tenant", "tenants_user", "tenants_apikey", "tenants_invitation"):
        pages[f"{page} add"] = reverse(f"admin:{page}_add")
    return pages


def measure(client: Client, pages: dict[str, str]) -> dict[str, int]:
    counts = {}
    for name, path in pages.items():
        client.get(path)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200, name
        counts[name] = len(captured)
    return counts


@pytest.mark.django_db
def test_pages_keep_their_query_budgets_however_many_rows_there_are(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    pages = furnish(3, staff)
    few = measure(client, pages)
    with acting_as("command", None, "tests"), scope.platform("test"):
        first = Tenant.objects.get(slug="tenant-0")
        for number in range(20):
            tenant = members.create_tenant(slug=f"more-{number}", name="Another tenant")
            person, _ = people.add_person(email=f"more-{number}@a.test")
            members.add_member(tenant=first, user=person, role=Membership.Role.MEMBER)
            members.add_member(tenant=tenant, user=person, role=Membership.Role.OWNER)
            keys.create_key(tenant=tenant, label="key")
            invite(tenant=tenant, email=f"new-{number}@a.test", role="viewer")
    assert measure(client, pages) == few
    if os.environ.get("UPDATE_QUERY_BUDGETS"):
        BUDGETS.write_text(json.dumps(few, indent=2, sort_keys=True) + "\n")
    assert few == json.loads(BUDGETS.read_text())

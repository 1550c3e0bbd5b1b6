"""How many queries each endpoint makes, recorded in query_budgets.json.

More than recorded, or more with more rows, fails. Fewer fails too, so that an endpoint that got
better stays better: write the new numbers with `UPDATE_QUERY_BUDGETS=1 pytest <this file>`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.invitations import invite
from tenants.members.models import User
from tenants.members.services import add_member, create_tenant
from tests.controlplane.api.conftest import Api, Home, signed_in, with_key
from tests.controlplane.api.providers.rows import crowd_registry
from tests.controlplane.api.test_matrix import ROWS, send

BUDGETS = Path(__file__).with_name("query_budgets.json")


def measure(callers: dict[str, Api], home: Home) -> dict[str, int]:
    counts = {}
    for caller, api in callers.items():
        for (name, method), row in ROWS.items():
            if caller != "staff" and row.least == "staff":
                continue
            for _ in range(2):  # the first fills what a process remembers
                # Django remembers the last 9000 queries alone: more endpoints make more.
                connection.queries_log.clear()
                with transaction.atomic():
                    with CaptureQueriesContext(connection) as captured:
                        answer = send(api, name, method, home.ids())
                    transaction.set_rollback(True)
            is_expected = answer.status_code in {row.status, *(row.otherwise or {}), 403}
            assert is_expected, (caller, name, method, answer.content)
            counts[f"{method} {name} as {caller}"] = len(
                [query for query in captured if "SAVEPOINT" not in query["sql"]]
            )
    return counts


@pytest.mark.django_db
def test_endpoints_keep_their_query_budgets_however_many_rows_there_are(
    home: Home, staff: User
) -> None:
    callers = {
        "staff": signed_in(staff),
        "admin": signed_in(home.members["admin"].user),
        "key": with_key(home.tenant),
    }
    with acting_as("command", None, "tests"):
        create_tenant(slug="first", name="Leaves the first revision of its topic")
    few = measure(callers, home)
    with acting_as("command", None, "tests"), scopes.platform("test"):
        for number in range(20):
            person = User.objects.create_user(f"more-{number}@a.test")
            member = add_member(tenant=home.tenant, user=person, role="viewer")
            create_key(tenant=home.tenant, label="more", member=member)
            invite(tenant=home.tenant, email=f"asked-{number}@a.test", role="viewer")
            create_tenant(slug=f"tenant-{number}", name="Another")
        crowd_registry(home.tenant, home.registry["provider_id"])
    assert measure(callers, home) == few
    if os.environ.get("UPDATE_QUERY_BUDGETS"):
        BUDGETS.write_text(json.dumps(few, indent=2, sort_keys=True) + "\n")
    assert few == json.loads(BUDGETS.read_text())
